// What the page holds in packed form, its figures and Vega: gzipped, in base64.

async function unpacked(id) {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
}

document.getElementById("too-old").hidden = "DecompressionStream" in window;
const data = JSON.parse(await unpacked("data"));
document.head.append(make("script", await unpacked("vega"))); // the policy allows it by its hash
