/**
 * States in S3, or in a server with its protocol: MinIO, Ceph, R2, Garage.
 *
 * An object is uploaded in parts while the state is encoded, and appears when the last part is complete. Until then, and
 * if anything fails, readers find the old object. Only the parts that are being uploaded are in memory.
 *
 * The AWS SDK is loaded at the first use: a host without S3 does not pay for it.
 *
 * @module
 */

import type { Readable } from "node:stream";
import type { GetObjectCommandOutput, S3Client, S3ClientConfig } from "@aws-sdk/client-s3";
import { Garbage } from "./garbage.ts";
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
/** Parts that are sent at once. */
const PARTS = 2;
/** How often a request is tried. */
const ATTEMPTS = 3;
/** How long a connection may take to be made, and to be silent, in milliseconds. */
const CONNECT_MS = 5_000;
const SILENT_MS = 30_000;

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
    let broken: unknown;
    const body = ReadableStream.from(parts(pieces, (error) => broken = error));
    const client = await connect(this.#options);
    try {
      const { Upload } = await import("@aws-sdk/lib-storage");
      const params = {
        Bucket: this.#bucket,
        Key: this.#key,
        Body: body,
        ContentType: "application/x-msgpack",
      };
      const upload = new Upload({
        client,
        params,
        partSize: PART_BYTES,
        queueSize: PARTS,
        // (Where it fails to remove them it would tell of that alone.)
        leavePartsOnError: true,
      });
      await upload.done().catch(async (error) => {
        await upload.abort();
        const left = await this.#abort(client, upload.uploadId);
        throw broken ?? new Error(`${causeOf(error, this.#options)}${left}`, { cause: error });
      });
    } finally {
      client.destroy();
    }
  }

  /** Removes the parts of an upload that failed, or says why they are left. */
  async #abort(client: S3Client, upload: string | undefined): Promise<string> {
    if (upload === undefined) return "";
    try {
      const { AbortMultipartUploadCommand } = await import("@aws-sdk/client-s3");
      const command = { Bucket: this.#bucket, Key: this.#key, UploadId: upload };
      await client.send(new AbortMultipartUploadCommand(command));
      return "";
    } catch (error) {
      return ` (parts of the upload ${upload} are left: ${causeOf(error, this.#options)})`;
    }
  }

  async read(): Promise<Stored | undefined> {
    const client = await connect(this.#options);
    try {
      const { GetObjectCommand } = await import("@aws-sdk/client-s3");
      const command = new GetObjectCommand({ Bucket: this.#bucket, Key: this.#key });
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
    const garbage = new Garbage();
    let received = 0;
    return new ReadableStream<Uint8Array>({
      async pull(controller) {
        try {
          const { value, done } = await iterator.next();
          if (!done) {
            received += value.length;
            garbage.add(value.length);
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

/**
 * Gathers pieces into the parts that are sent. The buffers of parts are used again: of those in turn, at most
 * as many as are sent at once are in use when another is filled.
 */
async function* parts(
  pieces: AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
  breaks: (error: unknown) => void,
): AsyncGenerator<Uint8Array> {
  const buffers: Uint8Array[] = [];
  const garbage = new Garbage();
  let turn = 0, filled = 0;
  const buffer = () => buffers[turn] ??= new Uint8Array(PART_BYTES);
  try {
    for await (const piece of pieces) {
      for (let at = 0; at < piece.length;) {
        const part = piece.subarray(at, at + PART_BYTES - filled);
        buffer().set(part, filled);
        at += part.length;
        filled += part.length;
        if (filled < PART_BYTES) continue;
        yield buffer();
        garbage.add(PART_BYTES);
        turn = (turn + 1) % (PARTS + 2);
        filled = 0;
      }
    }
  } catch (error) {
    breaks(error);
    throw error;
  }
  yield buffer().subarray(0, filled);
}

/** A client of its own for each transfer: its connections end with it. */
async function connect(options: S3Options): Promise<S3Client> {
  const { S3Client } = await import("@aws-sdk/client-s3");
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
