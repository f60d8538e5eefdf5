/**
 * Keys of CURVE, ZeroMQ's encryption: pairs of 32 bytes each, written as 40 characters of Z85.
 *
 * A secret key is one line in a file that only its owner can read; the public key is one line in the file beside
 * it, `FILE.pub`.
 *
 * @see https://rfc.zeromq.org/spec/26/ (CurveZMQ)
 * @see https://rfc.zeromq.org/spec/32/ (Z85)
 * @module
 */

import { libzmq } from "../transport/zeromq/libzmq.ts";
import type { KeyPair } from "../transport/transport.ts";

const KEY = /^[0-9a-zA-Z.\-:+=^!/*?&<>()[\]{}@%$#]{40}$/;
const buffer = () => new Uint8Array(new ArrayBuffer(41));
const text = (key: Uint8Array) => new TextDecoder().decode(key.subarray(0, 40));

/** Whether a text is a key. */
export function isKey(text: string): boolean {
  return KEY.test(text);
}

/** Makes a new pair. */
export async function makeKeys(): Promise<KeyPair> {
  const { zmq_curve_keypair } = await libzmq();
  const publicKey = buffer(), secretKey = buffer();
  if (zmq_curve_keypair(publicKey, secretKey) !== 0) {
    throw new Error("Cannot make keys: libzmq has no CURVE here");
  }
  return { publicKey: text(publicKey), secretKey: text(secretKey) };
}

/**
 * The pair whose secret key is in a file.
 *
 * @throws {Error} if it cannot be read, is not the user's own, others than its owner may do anything with it, or it
 * holds no key.
 */
export async function readKeys(path: string): Promise<KeyPair> {
  const secretKey = await readKey(path, "secret");
  const { zmq_curve_public } = await libzmq();
  const publicKey = buffer(), secret = buffer();
  secret.set(new TextEncoder().encode(secretKey));
  zmq_curve_public(publicKey, secret);
  return { publicKey: text(publicKey), secretKey };
}

/** A public key, given itself or by the path of its file. */
export async function readPublicKey(keyOrPath: string): Promise<string> {
  return isKey(keyOrPath) ? keyOrPath : await readKey(keyOrPath, "public");
}

async function readKey(path: string, kind: "secret" | "public"): Promise<string> {
  let line: string;
  try {
    using file = await Deno.open(path);
    const { uid, mode } = await file.stat();
    if (kind === "secret" && (uid !== Deno.uid() || ((mode ?? 0) & 0o077) !== 0)) {
      const bits = ((mode ?? 0) & 0o777).toString(8);
      throw new Error(
        `it must be yours, and for you alone (chmod 600): its mode is ${bits}, its owner ${uid}`,
      );
    }
    line = (await new Response(file.readable).text()).trim();
  } catch (error) {
    throw new Error(`Cannot read the ${kind} key in ${path}: ${(error as Error).message}`);
  }
  // (The text may be a secret: it is not shown.)
  if (!isKey(line)) {
    throw new Error(`Cannot read the ${kind} key in ${path}: it must be one line of 40 characters of Z85`);
  }
  return line;
}

/**
 * Makes a pair: the secret key goes to a new file for its owner alone, the public one to `<path>.pub`.
 *
 * @throws {Error} if one of the files exists already.
 */
export async function writeKeys(path: string): Promise<KeyPair> {
  const keys = await makeKeys();
  const write = (path: string, key: string, mode: number) =>
    Deno.writeTextFile(path, `${key}\n`, { createNew: true, mode }).catch((error) => {
      throw new Error(`Cannot write the key to ${path}: ${error.message}`);
    });
  await write(path, keys.secretKey, 0o600);
  try {
    await write(`${path}.pub`, keys.publicKey, 0o644);
  } catch (error) {
    await Deno.remove(path);
    throw error;
  }
  return keys;
}
