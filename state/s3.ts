/**
 * States in S3, or in a server with its protocol: MinIO, Ceph, R2, Garage.
 *
 * A state of more than one part is uploaded in parts while it is encoded. The object appears when the upload is complete:
 * until then, and if anything fails, readers find the old one. Only the parts in flight are in memory.
 *
 * The AWS SDK is fetched and loaded at the first use: a host without S3 does without it.
 *
 * @module
 */

import type { Readable } from "node:stream";
import type { GetObjectCommandOutput, S3Client, S3ClientConfig } from "npm:@aws-sdk/client-s3@3.1173.0";
import { type StateLocation, type Stored, type WhenBusy, writeAlone } from "./location.ts";

/**
 * How S3 is reached. Options that are left out come from where the AWS SDK looks for them: the environment (`AWS_…`), the
 * profiles in `~/.aws`, the role of the machine.
 */
export interface S3Options {
  /** The URL of a server that is not Amazon's. */
  endpoint?: string;
  /**
   * The region.
   * @default {"the SDK's; us-east-1 if there is an endpoint"}
   */
  region?: string;
  /**
   * Whether buckets are paths of the endpoint and not subdomains, as most servers but Amazon's want it.
   * @default {"true if there is an endpoint"}
   */
  forcePathStyle?: boolean;
  /** The profile in `~/.aws` whose settings are used. */
  profile?: string;
  /** The name of the key, with `secretAccessKey`. */
  accessKeyId?: string;
  /** The secret key. */
  secretAccessKey?: string;
  /** The token of temporary credentials. */
  sessionToken?: string;
}

/**
 * Bytes of a part. S3 takes 10,000 parts, so 68 GiB: twice what a host can hold, since the keys of entries that
 * expire are written twice.
 */
const PART_BYTES = 7 << 20;
/** Parts that are in flight at a time. */
const PARTS = 2;
/**
 * The AWS SDK. As a variable it is in no module graph, so that Deno does not fetch it before it is imported;
 * `deno task compile` includes it.
 */
const SDK = "npm:@aws-sdk/client-s3@3.1173.0";
const sdk = (): Promise<typeof import("npm:@aws-sdk/client-s3@3.1173.0")> => import(SDK);

/** How often a request is tried. */
const ATTEMPTS = 3;
/** How long a connection may take to be made, and to be silent, in milliseconds. */
const CONNECT_MS = 5_000;
const SILENT_MS = 30_000;
/** The content type of objects. */
const TYPE = "application/x-msgpack";

/** The bucket and the key of `s3://bucket/key`; undefined for other texts. */
export function parseS3(text: string): { bucket: string; key: string } | undefined {
  const [, bucket, key] = /^s3:\/\/([^/]+)\/(.+)$/s.exec(text) ?? [];
  return bucket === undefined ? undefined : { bucket, key };
}

/** An object in S3. */
export class S3Object implements StateLocation {
  readonly name: string;
  readonly #bucket: string;
  readonly #key: string;
  readonly #options: S3Options;

  constructor(bucket: string, key: string, options: S3Options = {}) {
    this.name = `s3://${bucket}/${key}`;
    this.#bucket = bucket;
    this.#key = key;
    this.#options = options;
  }

  write(
    pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
    whenBusy: WhenBusy = "refuse",
  ): Promise<void> {
    return writeAlone(this.name, whenBusy, () => this.#write(pieces));
  }

  async #write(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<void> {
    const client = await connect(this.#options);
    try {
      await using parts = partsOf(pieces);
      const { value: first } = await parts.next();
      if (first!.last) await this.#put(client, first!.bytes);
      else await this.#putInParts(client, first!, parts);
    } finally {
      client.destroy();
    }
  }

  /** Uploads a state that is one part. */
  async #put(client: S3Client, bytes: Uint8Array): Promise<void> {
    const { PutObjectCommand } = await sdk();
    const put = new PutObjectCommand({ ...this.#target, Body: bytes, ContentType: TYPE });
    await this.#request(client.send(put));
  }

  /** Uploads parts, a few at a time, and makes an object of them; if anything goes wrong, it removes them. */
  async #putInParts(client: S3Client, first: Part, rest: AsyncIterable<Part>): Promise<void> {
    const { CompleteMultipartUploadCommand, CreateMultipartUploadCommand, UploadPartCommand } = await sdk();
    const create = new CreateMultipartUploadCommand({ ...this.#target, ContentType: TYPE });
    const { UploadId } = await this.#request(client.send(create));
    const inFlight = new Set<Promise<void>>();
    const uploaded: { PartNumber: number; ETag?: string }[] = [];
    let failed: { error: unknown } | undefined;
    const upload = async ({ bytes, free }: Part) => {
      const PartNumber = uploaded.push({ PartNumber: uploaded.length + 1 });
      const command = new UploadPartCommand({ ...this.#target, UploadId, PartNumber, Body: bytes });
      try {
        uploaded[PartNumber - 1].ETag = (await this.#request(client.send(command))).ETag;
      } catch (error) {
        failed ??= { error };
      }
      free();
    };
    const start = async (part: Part) => {
      const work = upload(part).then(() => void inFlight.delete(work));
      inFlight.add(work);
      if (inFlight.size >= PARTS) await Promise.race(inFlight);
      if (failed) throw failed.error;
    };
    try {
      await start(first);
      for await (const part of rest) await start(part);
      await Promise.all(inFlight);
      if (failed) throw (failed as { error: unknown }).error;
      const parts = { Parts: uploaded };
      const complete = new CompleteMultipartUploadCommand({
        ...this.#target,
        UploadId,
        MultipartUpload: parts,
      });
      await this.#request(client.send(complete));
    } catch (error) {
      await Promise.all(inFlight);
      const left = await this.#abort(client, UploadId);
      if (left === undefined) throw error;
      throw new Error(`${(error as Error).message} (${left})`, { cause: error });
    }
  }

  /** Removes the parts of an upload that failed, or says why they are left. */
  async #abort(client: S3Client, UploadId: string | undefined): Promise<string | undefined> {
    const { AbortMultipartUploadCommand } = await sdk();
    try {
      await this.#request(client.send(new AbortMultipartUploadCommand({ ...this.#target, UploadId })));
    } catch (error) {
      return `parts of the upload ${UploadId} are left: ${(error as Error).message}`;
    }
  }

  get #target(): { Bucket: string; Key: string } {
    return { Bucket: this.#bucket, Key: this.#key };
  }

  /** The reply to a request; where it fails, the error says why in a line. */
  async #request<Reply>(reply: Promise<Reply>): Promise<Reply> {
    try {
      return await reply;
    } catch (error) {
      throw new Error(causeOf(error, this.#options), { cause: error });
    }
  }

  async read(): Promise<Stored | undefined> {
    const client = await connect(this.#options);
    try {
      const { GetObjectCommand } = await sdk();
      const command = new GetObjectCommand(this.#target);
      const found = await client.send(command);
      return {
        pieces: this.#pieces(client, found),
        size: found.ContentLength ?? 0,
        time: found.LastModified,
      };
    } catch (error) {
      client.destroy();
      if (error instanceof Error && error.name === "NoSuchKey") return undefined;
      throw new Error(causeOf(error, this.#options), { cause: error });
    }
  }

  #pieces(client: S3Client, { Body, ContentLength }: GetObjectCommandOutput): ReadableStream<Uint8Array> {
    const options = this.#options;
    const body = Body as Readable;
    const iterator = body.iterator() as AsyncIterator<Uint8Array>;
    let received = 0;
    return new ReadableStream<Uint8Array>({
      async pull(controller) {
        try {
          const { value, done } = await iterator.next();
          if (!done) {
            received += value.length;
            return controller.enqueue(value);
          }
          if (ContentLength !== undefined && received !== ContentLength) throw new Error("it ended");
          controller.close();
          client.destroy();
        } catch (error) {
          client.destroy();
          const why = `the connection was cut after ${received} of ${ContentLength} bytes`;
          throw new Error(`${why}: ${causeOf(error, options)}`, { cause: error });
        }
      },
      cancel() {
        body.destroy();
        client.destroy();
      },
    }, { highWaterMark: 0 });
  }
}

/** A part of an upload. */
interface Part {
  bytes: Uint8Array<ArrayBuffer>;
  last: boolean;
  /** Its bytes are not needed any more: the buffer is used again. */
  free(): void;
}

/** Gathers pieces into parts, one at least. Their buffers are used again once they are free. */
async function* partsOf(pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): AsyncGenerator<Part> {
  const buffers: Uint8Array<ArrayBuffer>[] = [];
  const take = () => buffers.pop() ?? new Uint8Array(PART_BYTES);
  let buffer = take(), filled = 0;
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length;) {
      // (A full part leaves when more follows: the last one is known to be the last.)
      if (filled === PART_BYTES) {
        const full = buffer;
        yield { bytes: full, last: false, free: () => void buffers.push(full) };
        buffer = take();
        filled = 0;
      }
      const more = piece.subarray(at, at + PART_BYTES - filled);
      buffer.set(more, filled);
      at += more.length;
      filled += more.length;
    }
  }
  yield { bytes: buffer.subarray(0, filled), last: true, free: () => {} };
}

/** A client of its own for each transfer: its connections end with it. */
async function connect(options: S3Options): Promise<S3Client> {
  const { S3Client } = await sdk();
  const { endpoint, profile, accessKeyId, secretAccessKey, sessionToken } = options;
  const config: S3ClientConfig = {
    maxAttempts: ATTEMPTS,
    requestHandler: { connectionTimeout: CONNECT_MS, socketTimeout: SILENT_MS },
    // (Few servers other than Amazon's know the checksums that the SDK would add.)
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    forcePathStyle: options.forcePathStyle ?? endpoint !== undefined,
  };
  const region = options.region ??
    (endpoint === undefined ? undefined : environment("AWS_REGION") ?? "us-east-1");
  if (region !== undefined) config.region = region;
  if (endpoint !== undefined) config.endpoint = endpoint;
  if (profile !== undefined) config.profile = profile;
  if (accessKeyId !== undefined && secretAccessKey !== undefined) {
    config.credentials = { accessKeyId, secretAccessKey, sessionToken };
  }
  return new S3Client(config);
}

/** A variable of the environment, as far as the process may read it. */
function environment(name: string): string | undefined {
  try {
    return Deno.env.get(name);
  } catch {
    return undefined;
  }
}

/** What S3's error codes mean, where their texts do not say it well. */
const CAUSES: Record<string, string> = {
  NoSuchBucket: "the bucket does not exist",
  AccessDenied: "access is denied",
  InvalidAccessKeyId: "access is denied: the server does not know the access key",
  SignatureDoesNotMatch: "access is denied: the secret key is wrong",
  ExpiredToken: "access is denied: the session token has expired",
  RequestTimeTooSkewed: "the clock of this machine differs too much from the server's",
  CredentialsProviderError: "there are no credentials for S3 in the settings, the environment or ~/.aws",
};

/** The same for errors of the connection. */
const CUTS: Record<string, string> = {
  ECONNREFUSED: "nothing answers there",
  ENOTFOUND: "there is no server of this name",
  ECONNRESET: "the connection was cut",
  EPIPE: "the connection was cut",
  TimeoutError: "the server does not answer in time",
};

/** Why a request failed, in a line. */
function causeOf(error: unknown, { endpoint = "S3" }: S3Options): string {
  if (!(error instanceof Error)) return String(error);
  const { code, $metadata } = error as Error & { code?: string; $metadata?: { httpStatusCode?: number } };
  const cut = CUTS[code ?? ""] ?? CUTS[error.name];
  if (cut) return `cannot reach ${endpoint}: ${cut}`;
  if (error.message === "Region is missing") {
    return "the region of the bucket is not known: set s3.region (--s3-region) or AWS_REGION";
  }
  const denied = $metadata?.httpStatusCode === 403 ? CAUSES.AccessDenied : undefined;
  return CAUSES[error.name] ?? denied ?? `${error.name}: ${error.message}`;
}
