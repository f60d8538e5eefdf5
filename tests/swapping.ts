/** Swaps the directory `sub` for a link to another one and back, as fast as it can, until it is killed. */

const [directory, target] = Deno.args;
const [sub, real, link] = ["sub", "real", "link"].map((name) => `${directory}/${name}`);
Deno.symlinkSync(target, link);
console.log("ready");
for (;;) {
  Deno.renameSync(sub, real);
  Deno.renameSync(link, sub);
  Deno.renameSync(sub, link);
  Deno.renameSync(real, sub);
}
