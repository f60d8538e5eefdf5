/**
 * The text of `memstore config init`: a settings file in which every setting is explained, and switched off
 * by the `//` before it.
 *
 * @module
 */

import { type Group, isSetting, type Setting, table } from "./table.ts";

const HEAD = `// The settings of a memstore host: memstore serve --config FILE
//
// This is JSON with comments; a comma may follow the last entry. Take away the // before a setting to change
// it. A flag wins over this file, this file over the environment, the environment over the default.
// Relative paths begin at the directory of this file.
`;

/** The commented example, with every default. */
export function example(): string {
  return `${HEAD}{\n${entries(table, "  ")}}\n`;
}

function entries(group: Group, indent: string): string {
  return Object.entries(group).map(([key, entry]) =>
    isSetting(entry)
      ? lines(key, entry).map((line) => `${indent}// ${line}\n`).join("")
      : `${indent}${JSON.stringify(key)}: {\n${entries(entry, `${indent}  `)}${indent}},\n`
  ).join("\n");
}

function lines(key: string, { help, flag, env, default: standard, example }: Setting<unknown>): string[] {
  return [
    help,
    `${standard === undefined ? "No default. " : ""}${flag ? `Flag: ${flag}. ` : ""}Environment: ${env}.`,
    `${JSON.stringify(key)}: ${JSON.stringify(standard ?? example)},`,
  ];
}
