/**
 * An S3 server in memory, with what {@linkcode S3Object} and a test of it need: objects, ranges, uploads in parts,
 * path style, signatures (SigV4) and errors in XML. tests/s3_server_test.ts holds it against the AWS SDK. And a proxy
 * before it that cuts connections.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createHash, createHmac } from "node:crypto";

/** The one key that the server knows. */
export const CREDENTIALS = { accessKeyId: "S3SERVER", secretAccessKey: "a-secret-of-tests" };

/** S3 refuses smaller parts, except for the last. */
const MIN_PART_BYTES = 5 << 20;

/** An object. */
export interface StoredObject {
  bytes: Uint8Array<ArrayBuffer>;
  type: string;
  etag: string;
  time: Date;
}

/** An upload in parts that is neither complete nor aborted. */
interface Upload {
  path: string;
  type: string;
  parts: Map<number, { bytes: Uint8Array<ArrayBuffer>; etag: string }>;
}

/** An error as S3 answers it. */
class S3Error extends Error {
  constructor(readonly status: number, readonly code: string, message = code) {
    super(message);
  }
}

/** A server with the empty bucket `states`, which ends with the block. */
export class S3Server implements AsyncDisposable {
  readonly #server: Deno.HttpServer<Deno.NetAddr>;
  readonly endpoint: string;
  /** The objects, by bucket and key: `states/a/b`. */
  readonly objects = new Map<string, StoredObject>();
  readonly #uploads = new Map<string, Upload>();

  constructor() {
    const answer = (request: Request) => this.#answer(request);
    this.#server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, answer);
    this.endpoint = `http://127.0.0.1:${this.#server.addr.port}`;
  }

  /** How many uploads in parts are neither complete nor aborted. */
  get unfinished(): number {
    return this.#uploads.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#server.shutdown();
  }

  async #answer(request: Request): Promise<Response> {
    try {
      const body = await request.bytes().catch(() => {
        throw new S3Error(400, "IncompleteBody");
      });
      checkSignature(request, body);
      return this.#run(request, body);
    } catch (error) {
      if (!(error instanceof S3Error)) throw error;
      const { code, message, status } = error;
      return xml(`<Error><Code>${code}</Code><Message>${message}</Message></Error>`, status);
    }
  }

  #run(request: Request, body: Uint8Array<ArrayBuffer>): Response {
    const { pathname, searchParams } = new URL(request.url);
    const path = decodeURIComponent(pathname.slice(1));
    const [bucket, key] = split(path);
    if (bucket !== "states") throw new S3Error(404, "NoSuchBucket");
    const id = searchParams.get("uploadId");
    const is = (method: string, ...names: string[]) =>
      request.method === method && names.every((name) => searchParams.has(name));
    if (is("GET", "uploads")) return this.#listUploads(bucket);
    if (is("POST", "uploads")) return this.#create(path, typeOf(request));
    if (id !== null) {
      const upload = this.#uploads.get(id);
      if (upload?.path !== path) throw new S3Error(404, "NoSuchUpload");
      if (is("PUT", "partNumber")) return put(upload.parts, Number(searchParams.get("partNumber")), body);
      if (is("GET")) return listParts(bucket, key, id, upload);
      if (is("POST")) return this.#complete(id, upload, body);
      if (is("DELETE")) {
        this.#uploads.delete(id);
        return new Response(null, { status: 204 });
      }
    }
    if (is("PUT")) {
      const object = { bytes: body, type: typeOf(request), etag: md5(body), time: new Date() };
      this.objects.set(path, object);
      return new Response(null, { headers: { etag: `"${object.etag}"` } });
    }
    if (is("DELETE")) {
      this.objects.delete(path);
      return new Response(null, { status: 204 });
    }
    if (is("GET") || is("HEAD")) {
      const object = this.objects.get(path);
      if (!object) throw new S3Error(404, "NoSuchKey");
      return send(object, request);
    }
    throw new S3Error(501, "NotImplemented");
  }

  #create(path: string, type: string): Response {
    const id = crypto.randomUUID();
    this.#uploads.set(id, { path, type, parts: new Map() });
    const [bucket, key] = split(path);
    return result("InitiateMultipartUpload", { Bucket: bucket, Key: key, UploadId: id });
  }

  #complete(id: string, { path, type, parts }: Upload, body: Uint8Array): Response {
    const listed = Array.from(
      new TextDecoder().decode(body).matchAll(/<Part>.*?<\/Part>/gs),
      ([part]) => ({ number: Number(textOf(part, "PartNumber")), etag: textOf(part, "ETag") }),
    );
    if (listed.length === 0) throw new S3Error(400, "MalformedXML");
    const chosen = listed.map(({ number, etag }) => {
      const part = parts.get(number);
      if (!part || part.etag !== etag) throw new S3Error(400, "InvalidPart");
      return part;
    });
    if (listed.some(({ number }, i) => i > 0 && number <= listed[i - 1].number)) {
      throw new S3Error(400, "InvalidPartOrder");
    }
    if (chosen.slice(0, -1).some(({ bytes }) => bytes.length < MIN_PART_BYTES)) {
      throw new S3Error(400, "EntityTooSmall");
    }
    const bytes = new Uint8Array(Buffer.concat(chosen.map((part) => part.bytes)));
    const etag = `${
      md5(Buffer.concat(chosen.map((part) => Buffer.from(part.etag, "hex"))))
    }-${chosen.length}`;
    this.objects.set(path, { bytes, type, etag, time: new Date() });
    this.#uploads.delete(id);
    const [bucket, key] = split(path);
    return result("CompleteMultipartUpload", { Bucket: bucket, Key: key, ETag: `"${etag}"` });
  }

  #listUploads(bucket: string): Response {
    const uploads = Array.from(
      this.#uploads,
      ([id, { path }]) => `<Upload>${fields({ Key: split(path)[1], UploadId: id })}</Upload>`,
    );
    return result("ListMultipartUploads", { Bucket: bucket, IsTruncated: false }, uploads.join(""));
  }
}

/** The bucket and the key of a path. */
function split(path: string): [bucket: string, key: string] {
  const slash = path.indexOf("/");
  return slash < 0 ? [path, ""] : [path.slice(0, slash), path.slice(slash + 1)];
}

function put(parts: Upload["parts"], number: number, bytes: Uint8Array<ArrayBuffer>): Response {
  if (!(number >= 1 && number <= 10_000)) throw new S3Error(400, "InvalidArgument");
  const etag = md5(bytes);
  parts.set(number, { bytes, etag });
  return new Response(null, { headers: { etag: `"${etag}"` } });
}

function listParts(bucket: string, key: string, id: string, { parts }: Upload): Response {
  const listed = Array.from(parts).sort(([a], [b]) => a - b).map(([number, { bytes, etag }]) =>
    `<Part>${fields({ PartNumber: number, ETag: `"${etag}"`, Size: bytes.length })}</Part>`
  );
  return result("ListParts", { Bucket: bucket, Key: key, UploadId: id, IsTruncated: false }, listed.join(""));
}

/** An object, or the range of it that is asked for. */
function send({ bytes, type, etag, time }: StoredObject, request: Request): Response {
  const headers = new Headers({
    "content-type": type,
    "content-length": `${bytes.length}`,
    "accept-ranges": "bytes",
    "last-modified": time.toUTCString(),
    etag: `"${etag}"`,
  });
  const range = request.headers.get("range");
  const [, first, last] = /^bytes=(\d*)-(\d*)$/.exec(range ?? "") ?? [];
  let part = bytes;
  if (first !== undefined && (first || last)) {
    const from = first === "" ? Math.max(0, bytes.length - Number(last)) : Number(first);
    const to = first === "" || last === "" ? bytes.length : Math.min(bytes.length, Number(last) + 1);
    if (from >= to) throw new S3Error(416, "InvalidRange");
    part = bytes.subarray(from, to);
    headers.set("content-length", `${part.length}`);
    headers.set("content-range", `bytes ${from}-${to - 1}/${bytes.length}`);
  }
  return new Response(request.method === "HEAD" ? null : part, {
    status: part === bytes ? 200 : 206,
    headers,
  });
}

/**
 * Checks what a request is signed with, and that its body is the one that was signed.
 *
 * @see https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
 */
function checkSignature({ method, url, headers }: Request, body: Uint8Array): void {
  const [, credential, signed, signature] =
    /^AWS4-HMAC-SHA256 Credential=([^,]+), ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})$/
      .exec(headers.get("authorization") ?? "") ?? [];
  if (signature === undefined) throw new S3Error(403, "AccessDenied");
  const [accessKeyId, ...scope] = credential.split("/");
  if (accessKeyId !== CREDENTIALS.accessKeyId) throw new S3Error(403, "InvalidAccessKeyId");
  const hash = headers.get("x-amz-content-sha256") ?? "";
  if (hash.startsWith("STREAMING-")) throw new S3Error(501, "NotImplemented", hash);
  if (hash !== "UNSIGNED-PAYLOAD" && hash !== sha256(body)) {
    throw new S3Error(400, "XAmzContentSHA256Mismatch");
  }
  const { pathname, searchParams } = new URL(url);
  const query = Array.from(searchParams, ([name, value]) => `${encode(name)}=${encode(value)}`).sort().join(
    "&",
  );
  const names = signed.split(";");
  const lines = names.map((name) => `${name}:${headers.get(name)?.trim().replace(/\s+/g, " ")}\n`).join("");
  const canonical = [method, pathname, query, lines, signed, hash].join("\n");
  const toSign = ["AWS4-HMAC-SHA256", headers.get("x-amz-date"), scope.join("/"), sha256(canonical)].join(
    "\n",
  );
  const key = scope.reduce<string | Uint8Array>(hmac, `AWS4${CREDENTIALS.secretAccessKey}`);
  if (hmac(key, toSign).toString("hex") !== signature) throw new S3Error(403, "SignatureDoesNotMatch");
}

const hmac = (key: string | Uint8Array, text: string) => createHmac("sha256", key).update(text).digest();
const sha256 = (bytes: string | Uint8Array) => createHash("sha256").update(bytes).digest("hex");
const md5 = (bytes: Uint8Array) => createHash("md5").update(bytes).digest("hex");
const encode = (text: string) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
const typeOf = (request: Request) => request.headers.get("content-type") ?? "binary/octet-stream";

const escape = (text: string) => text.replace(/[&<>"]/g, (char) => `&#${char.charCodeAt(0)};`);
const unescape = (text: string) => text.replaceAll("&quot;", '"').replaceAll("&#34;", '"');
const textOf = (element: string, name: string) =>
  unescape(new RegExp(`<${name}>(.*?)</${name}>`, "s").exec(element)?.[1] ?? "").replaceAll('"', "");
const fields = (values: Record<string, unknown>) =>
  Object.entries(values).map(([name, value]) => `<${name}>${escape(String(value))}</${name}>`).join("");

function xml(text: string, status = 200): Response {
  const headers = { "content-type": "application/xml" };
  return new Response(`<?xml version="1.0" encoding="UTF-8"?>\n${text}`, { status, headers });
}

function result(name: string, values: Record<string, unknown>, more = ""): Response {
  const space = "http://s3.amazonaws.com/doc/2006-03-01/";
  return xml(`<${name}Result xmlns="${space}">${fields(values)}${more}</${name}Result>`);
}

/** Where a proxy cuts a connection: after so many bytes from the client, or from the server. */
export interface Cut {
  up?: number;
  down?: number;
}

/** A TCP proxy that cuts every connection at one place. */
export class CuttingProxy implements AsyncDisposable {
  readonly endpoint: string;
  readonly #listener: Deno.TcpListener;
  readonly #connections = new Set<Deno.TcpConn>();
  readonly #running: Promise<void>;
  /** Where connections are cut; nowhere while it is empty. */
  cut: Cut = {};

  constructor(to: string) {
    const { hostname, port } = new URL(to);
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.endpoint = `http://127.0.0.1:${this.#listener.addr.port}`;
    this.#running = this.#run(hostname, Number(port));
  }

  async #run(hostname: string, port: number): Promise<void> {
    const pipes: Promise<void>[] = [];
    for await (const client of this.#listener) {
      const server = await Deno.connect({ hostname, port });
      this.#connections.add(client).add(server);
      pipes.push(this.#pipe(client, server, this.cut.up), this.#pipe(server, client, this.cut.down));
    }
    await Promise.all(pipes);
  }

  async #pipe(from: Deno.TcpConn, to: Deno.TcpConn, most = Infinity): Promise<void> {
    const buffer = new Uint8Array(1 << 14);
    try {
      for (let passed = 0; passed < most;) {
        const length = await from.read(buffer);
        if (length === null) return;
        const part = buffer.subarray(0, Math.min(length, most - passed));
        for (let at = 0; at < part.length;) at += await to.write(part.subarray(at));
        passed += part.length;
      }
    } catch {
      // The other direction was cut.
    } finally {
      for (const connection of [from, to]) this.#close(connection);
    }
  }

  #close(connection: Deno.TcpConn): void {
    if (this.#connections.delete(connection)) connection.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) this.#close(connection);
    await this.#running;
  }
}
