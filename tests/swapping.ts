/**
 * Swaps the directory `sub` for a link to another directory and back, and the file `file` for a link to the file
 * `secret` there, as fast as it can, until it is killed.
 */

const [directory, target] = Deno.args;
const link = `${directory}/link`, linkToFile = `${directory}/link-to-file`, aside = `${directory}/aside`;
Deno.symlinkSync(target, link);
Deno.symlinkSync(`${target}/secret`, linkToFile);

function swap(path: string, link: string): void {
  Deno.renameSync(path, aside);
  Deno.renameSync(link, path);
  Deno.renameSync(path, link);
  Deno.renameSync(aside, path);
}

console.log("ready");
for (;;) {
  swap(`${directory}/sub`, link);
  swap(`${directory}/file`, linkToFile);
}
