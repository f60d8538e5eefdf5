/**
 * The settings as flags of a command.
 *
 * @module
 */

import { Argument, type Command, Option } from "npm:commander@15.1.0";
import { parse, SettingsError } from "./error.ts";
import { type Setting, settings } from "./list.ts";

/**
 * Adds a flag for each setting that has one.
 *
 * @param refuse Makes the error for a flag whose value cannot be used.
 */
export function addFlags(command: Command, refuse: (why: string) => Error): void {
  for (const [key, setting] of settings) {
    if (setting.flag === undefined) continue;
    const parseFlag = (text: string): unknown => {
      try {
        return parse(key, setting, text, Deno.cwd());
      } catch (error) {
        throw error instanceof SettingsError ? refuse(error.message) : error;
      }
    };
    if (setting.flag.startsWith("[")) command.addArgument(argument(setting, parseFlag));
    else options(setting, parseFlag).forEach((each) => command.addOption(each));
  }
}

/** The values that were given as flags, by the full keys of their settings. */
export function givenFlags(command: Command): Map<string, unknown> {
  const given = new Map<string, unknown>();
  for (const [key, { flag }] of settings) {
    if (flag === undefined) continue;
    const value = flag.startsWith("[")
      ? command.args.length > 0 ? command.processedArgs[0] : undefined
      : command.getOptionValue(new Option(flag).attributeName());
    if (value !== undefined) given.set(key, value);
  }
  return given;
}

function argument(setting: Setting<unknown>, parseFlag: (text: string) => unknown): Argument {
  return new Argument(setting.flag!, helpOf(setting))
    .argParser((text, before: unknown[] = []) => [...before, ...parseFlag(text) as unknown[]]);
}

function options(setting: Setting<unknown>, parseFlag: (text: string) => unknown): Option[] {
  const option = new Option(setting.flag!, helpOf(setting));
  if (option.required) return [option.argParser(parseFlag)];
  // (A flag can switch off what the file switches on, and the other way round.)
  const name = option.name();
  const opposite = new Option(option.negate ? name.replace("no-", "--") : `--no-${name}`).hideHelp();
  // (If commander reads --no-lane first, it takes it that the setting is given, and on.)
  return option.negate ? [opposite, option] : [option, opposite];
}

function helpOf({ help, default: standard }: Setting<unknown>): string {
  return standard === undefined || typeof standard === "boolean" ? help : `${help} (default: ${standard})`;
}
