/** The S3 server of the tests, held against the AWS SDK: what it answers is what the SDK expects of Amazon's. */

import assert from "node:assert/strict";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  HeadObjectCommand,
  ListMultipartUploadsCommand,
  ListPartsCommand,
  PutObjectCommand,
  S3Client,
  type S3ClientConfig,
  UploadPartCommand,
} from "npm:@aws-sdk/client-s3@3.1173.0";
import { CREDENTIALS, S3Server } from "./s3_server.ts";

/** A client of the SDK, which ends with the block. */
function connect(endpoint: string, more: S3ClientConfig = {}): S3Client & Disposable {
  const client = new S3Client({
    endpoint,
    region: "us-east-1",
    forcePathStyle: true,
    credentials: CREDENTIALS,
    requestChecksumCalculation: "WHEN_REQUIRED",
    responseChecksumValidation: "WHEN_REQUIRED",
    ...more,
  });
  return Object.assign(client, { [Symbol.dispose]: () => client.destroy() });
}

const Bucket = "states";

/** The SDK names the error that a request fails with. */
const fails = (request: Promise<unknown>, name: string, status: number) =>
  assert.rejects(request, (error: Error & { $metadata: { httpStatusCode: number } }) => {
    assert.deepEqual([error.name, error.$metadata.httpStatusCode], [name, status]);
    return true;
  });

Deno.test("objects: put, head, get, a range, delete; keys of any characters", async () => {
  await using server = new S3Server();
  using client = connect(server.endpoint);
  for (const Key of ["state", "a/b c/ü+&=%.msgpack", "it's (1)*!"]) {
    const target = { Bucket, Key };
    const put = await client.send(
      new PutObjectCommand({ ...target, Body: "0123456789", ContentType: "a/b" }),
    );
    assert.equal(put.ETag, '"781e5e245d69b566979b86e28d23f2c7"');
    const head = await client.send(new HeadObjectCommand(target));
    assert.deepEqual([head.ContentLength, head.ContentType, head.ETag], [10, "a/b", put.ETag]);
    assert.ok(Math.abs(head.LastModified!.getTime() - Date.now()) < 60_000);
    const get = async (Range?: string) => {
      const found = await client.send(new GetObjectCommand({ ...target, Range }));
      return [await found.Body!.transformToString(), found.ContentRange];
    };
    assert.deepEqual(await get(), ["0123456789", undefined]);
    assert.deepEqual(await get("bytes=2-4"), ["234", "bytes 2-4/10"]);
    assert.deepEqual(await get("bytes=7-"), ["789", "bytes 7-9/10"]);
    assert.deepEqual(await get("bytes=-2"), ["89", "bytes 8-9/10"]);
    await fails(get("bytes=10-"), "InvalidRange", 416);
    await client.send(new DeleteObjectCommand(target));
    await fails(get(), "NoSuchKey", 404);
    await fails(client.send(new HeadObjectCommand(target)), "NotFound", 404);
  }
  assert.equal(server.objects.size, 0);
});

Deno.test("uploads in parts: create, upload, list, complete, abort, and what S3 refuses", async () => {
  await using server = new S3Server();
  using client = connect(server.endpoint);
  const target = { Bucket, Key: "large" };
  const create = async () => (await client.send(new CreateMultipartUploadCommand(target))).UploadId;
  const upload = async (UploadId: string | undefined, PartNumber: number, Body: Uint8Array) => {
    const { ETag } = await client.send(new UploadPartCommand({ ...target, UploadId, PartNumber, Body }));
    return { PartNumber, ETag };
  };
  const complete = (UploadId: string | undefined, Parts: { PartNumber: number; ETag?: string }[]) =>
    client.send(new CompleteMultipartUploadCommand({ ...target, UploadId, MultipartUpload: { Parts } }));

  const id = await create();
  const large = new Uint8Array(5 << 20).fill(1);
  const second = await upload(id, 2, new Uint8Array([2, 3]));
  const first = await upload(id, 1, large);
  const listed = await client.send(new ListPartsCommand({ ...target, UploadId: id }));
  assert.deepEqual(listed.Parts?.map(({ PartNumber, Size }) => [PartNumber, Size]), [[1, 5 << 20], [2, 2]]);
  assert.deepEqual((await client.send(new ListMultipartUploadsCommand({ Bucket }))).Uploads?.length, 1);
  await fails(complete(id, [second, first]), "InvalidPartOrder", 400);
  await fails(complete(id, [{ ...first, ETag: second.ETag }]), "InvalidPart", 400);
  const done = await complete(id, [first, second]);
  assert.match(done.ETag!, /^"[0-9a-f]{32}-2"$/);
  assert.deepEqual(server.objects.get("states/large")?.bytes.subarray(-3), new Uint8Array([1, 2, 3]));
  await fails(complete(id, [first]), "NoSuchUpload", 404);

  const small = await create();
  const parts = [await upload(small, 1, new Uint8Array(9)), await upload(small, 2, new Uint8Array(9))];
  await fails(complete(small, parts), "EntityTooSmall", 400);
  await client.send(new AbortMultipartUploadCommand({ ...target, UploadId: small }));
  assert.equal(server.unfinished, 0);
  await fails(upload(small, 1, large), "NoSuchUpload", 404);
});

Deno.test("buckets, keys and signatures that are wrong are refused as S3 does", async () => {
  await using server = new S3Server();
  using client = connect(server.endpoint);
  const put = (client: S3Client, Bucket: string) =>
    client.send(new PutObjectCommand({ Bucket, Key: "k", Body: "1" }));
  await fails(put(client, "nowhere"), "NoSuchBucket", 404);
  using unknown = connect(server.endpoint, { credentials: { ...CREDENTIALS, accessKeyId: "NOBODY" } });
  await fails(put(unknown, Bucket), "InvalidAccessKeyId", 403);
  using wrong = connect(server.endpoint, { credentials: { ...CREDENTIALS, secretAccessKey: "wrong" } });
  await fails(put(wrong, Bucket), "SignatureDoesNotMatch", 403);
  const unsigned = await fetch(`${server.endpoint}/states/k`);
  assert.equal(unsigned.status, 403);
  await unsigned.body?.cancel();
  assert.equal(server.objects.size, 0);
});
