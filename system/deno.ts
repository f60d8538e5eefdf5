/**
 * Says so where memstore is imported by something that is not Deno. Imported first by whatever people import.
 * (Plain JavaScript, since Node reads it too.)
 *
 * @module
 */

if (!("Deno" in globalThis)) {
  throw new Error(
    "Cannot load memstore: it runs on Deno alone: run the program with Deno (npx deno run …), or from Node or " +
      "Bun send MessagePack over ZeroMQ yourself, as the README shows",
  );
}

export {};
