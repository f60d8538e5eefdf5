/**
 * Words for the command table: the arguments of commands, by their types.
 *
 * @module
 */

import type { Arg, ArgType, Command } from "./dispatch.ts";

/** A command without its name, under which it is in the table. */
export type CommandEntry = Omit<Command, "name">;

const of = (type: ArgType) => (name: string): Arg => ({ name, type });

export const string: (name: string) => Arg = of("string");
export const key: (name: string) => Arg = of("key");
export const keys: (name: string) => Arg = of("keys");
export const entries: (name: string) => Arg = of("entries");
export const number: (name: string) => Arg = of("number");
export const seconds: (name: string) => Arg = of("seconds");
export const uint32: (name: string) => Arg = of("uint32");

/** What is on or off: its help says what it does when it is on. */
export const bool = (name: string, help: string): Arg => ({ name, type: "bool", help });

/** Any value. */
export const any = (name: string): Arg => ({ name });

/** One that may be left out, as may those that follow it. */
export const optional = (arg: Arg): Arg => ({ ...arg, optional: true });
