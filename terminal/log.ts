/**
 * The host's log: one line on stderr for each event. On a terminal it is short text, otherwise JSON:
 * `{"time", "level", "event", …}`, followed by the fields of the event.
 *
 * @module
 */

import {
  configureSync,
  getAnsiColorFormatter,
  getLogger,
  getTextFormatter,
  type LogRecord,
} from "npm:@logtape/logtape@2.4.2";
import type { Log, LogLevel } from "../state/persistence.ts";
import { toLine } from "./json.ts";
import { visible, write } from "./output.ts";

const CATEGORY = "memstore";
const UNITS = ["bytes", "KB", "MB", "GB", "TB"];
const DONE: Record<string, string> = { store: "stored", restore: "restored" };

/** Makes the log of this process. Events of the level, and more severe ones, go to stderr. */
export function makeLog(level: LogLevel): Log {
  const format = !Deno.stderr.isTerminal() ? json : Deno.noColor ? human : colored;
  const sink = (record: LogRecord) => {
    try {
      write(Deno.stderr, format(record));
    } catch {
      // (stderr was closed. The host goes on.)
    }
  };
  configureSync({
    reset: true,
    sinks: { stderr: sink },
    loggers: [
      { category: CATEGORY, lowestLevel: level, sinks: ["stderr"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["stderr"] },
    ],
  });
  const logger = getLogger(CATEGORY);
  return (level, event, fields) => logger[level](event, fields);
}

/** A record for machines. */
export function json({ timestamp, level, message, properties }: LogRecord): string {
  const time = new Date(timestamp).toISOString();
  return `${toLine({ time, level, event: message.join(""), ...properties })}\n`;
}

const FORMAT = {
  timestamp: (time: number) => new Date(time).toTimeString().slice(0, 8),
  level: "full" as const,
  format: ({ timestamp, level, record }: { timestamp: string | null; level: string; record: LogRecord }) =>
    `${timestamp} ${record.level === "info" ? "" : `${level} `}${sentence(record)}`,
};

/** A record for people. */
export const human: (record: LogRecord) => string = getTextFormatter(FORMAT);

/** A record for people, in colour. */
export const colored: (record: LogRecord) => string = getAnsiColorFormatter(FORMAT);

function sentence({ message, properties }: LogRecord): string {
  const event = message.join("");
  const { where, result, entries, bytes, seconds } = properties;
  if (event in DONE && result === "ok") {
    const count = Number(entries).toLocaleString("en-US");
    return visible(`${DONE[event]} ${where}: ${count} entries, ${size(Number(bytes))} in ${seconds} s`);
  }
  if (event in DONE) return visible(`${event} ${where}: ${result}`);
  const fields = Object.entries(properties).map(([name, value]) => `${name}=${toLine(value)}`);
  return visible([event, ...fields].join(" "));
}

/** `46137344` → `44 MB`. */
function size(bytes: number): string {
  const power = Math.max(0, Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10)));
  const number = bytes / 1024 ** power;
  return `${number < 10 && power > 0 ? number.toFixed(1) : Math.round(number)} ${UNITS[power]}`;
}
