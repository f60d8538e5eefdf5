/**
 * A host that keeps its data in S3.
 *
 * @module
 */

import { MemStore, type MemStoreOptions } from "./server.ts";
import type { S3Options } from "./state/s3.ts";

export type { S3Options };

/** Options of an {@linkcode S3MemStore}: where its state is, and how S3 is reached. */
export interface S3MemStoreOptions extends Omit<MemStoreOptions, "state" | "s3">, S3Options {
  /** The bucket, which must exist. */
  bucket: string;
  /** The key of the object. */
  key: string;
}

/**
 * A {@linkcode MemStore} that keeps its state in an object in S3. It loads the object at the start, if it exists, and
 * stores it at the stop and, if the data has changed, every `storeEvery` milliseconds. (`s3store` and `s3restore` use
 * other objects, with the same credentials.)
 *
 * @example
 * ```ts ignore
 * import { S3MemStore } from "@memstore/memstore";
 *
 * await using store = new S3MemStore("memstore", {
 *   bucket: "states",
 *   key: "jobs.msgpack",
 *   endpoint: "http://127.0.0.1:9000", // for example MinIO; default: Amazon's
 *   storeEvery: 60_000,
 * });
 * await store.start();
 * ```
 */
export class S3MemStore extends MemStore {
  /**
   * Makes a host, which serves once it is started.
   *
   * @param endpoints A name, a path or a ZeroMQ address, or several.
   * @param options Where the state is, how S3 is reached, and the options of {@linkcode MemStore}.
   */
  constructor(
    endpoints: string | readonly string[],
    {
      bucket,
      key,
      endpoint,
      region,
      forcePathStyle,
      profile,
      accessKeyId,
      secretAccessKey,
      sessionToken,
      ...rest
    }: S3MemStoreOptions,
  ) {
    super(endpoints, {
      ...rest,
      state: `s3://${bucket}/${key}`,
      s3: { endpoint, region, forcePathStyle, profile, accessKeyId, secretAccessKey, sessionToken },
    });
  }
}
