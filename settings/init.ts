/**
 * The text of `memstore config init`: a settings file that explains every setting. Each is commented out.
 *
 * @module
 */

import { type Group, isSetting, type Setting, table } from "./list.ts";

const HEAD = `// The settings of a memstore host: memstore serve --config FILE
//
// This is JSON with comments, and a comma may follow the last entry. To change a setting, remove the // in front
// of it. A flag overrides this file, this file overrides the environment, the environment overrides the default.
// Relative paths start at the directory of this file.
`;

/** A settings file with every setting, commented out. */
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
