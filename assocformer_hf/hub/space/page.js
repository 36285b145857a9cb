"use strict";
// Pictures in, labels out: the server says what it sees, everything else happens here.
const find = selector => element.querySelector(selector);
const settings = JSON.parse(find(".af").dataset.settings);
const FOR = [29, 78, 216], AGAINST = [180, 83, 9];  // colours of what speaks for a label, and against it
const SHOWN = 8;  // labels at least
let pictures = [], current = null, chosen = null, threshold = settings.threshold, own = settings.own;

const create = (tag, text, css) => {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (css) made.className = css;
  return made;
};
const say = text => { find(".said").textContent = text; };
const signed = value => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(2);
const isGiven = label => label.score >= (own ? label.threshold : threshold);

function complain(text) {
  const line = create("p", text);
  find(".trouble").append(line);
}

const asUrl = file => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});

async function give(files) {
  find(".trouble").replaceChildren();
  const added = [...files].map(file => ({ file, name: file.name || "picture" }));
  pictures.push(...added);
  drawStrip();
  for (const [i, picture] of added.entries()) {
    say(added.length > 1 ? `Looking at picture ${i + 1} of ${added.length} …` : "Looking …");
    await look(picture);
    drawStrip();
    if (picture.labels && (i === 0 || current === null)) show(picture);
  }
  const seen = added.filter(picture => picture.labels);
  if (!seen.length) say("No picture could be read.");
  else if (added.length > 1) say(`${seen.length} of ${added.length} pictures are labelled.`);
  else summarize();
}

async function look(picture) {
  const refuse = why => {
    picture.error = why;
    complain(`${picture.name}: ${why}`);
  };
  if (picture.file.size > settings.most_bytes) return refuse(`The file is too large: ${settings.most_bytes / 2 ** 20} MiB at most.`);
  try {
    const url = await asUrl(picture.file);
    const shows = await createImageBitmap(picture.file).then(() => true, () => false);
    const found = await server.analyse({ picture: url, preview: !shows });
    if (found.error) return refuse(found.error);
    Object.assign(picture, found, { url, source: found.preview || url });
  } catch (error) {
    refuse("The server does not answer; try again.");
  }
}

function drawStrip() {
  const strip = find(".strip");
  strip.hidden = pictures.length < 2;
  strip.replaceChildren(...pictures.map(picture => {
    const button = create("button");
    button.type = "button";
    if (picture.source) {
      const image = create("img");
      image.src = picture.source;
      image.alt = "";
      button.append(image);
    } else button.append(create("span", picture.error ? "not readable" : "…", "blank"));
    button.append(create("span", picture.labels ? given(picture).map(label => label.name).join(", ") || "nothing found" : picture.name));
    button.title = picture.name;
    button.disabled = !picture.labels;
    if (picture === current) button.setAttribute("aria-current", "true");
    button.addEventListener("click", () => { show(picture); summarize(); });
    return button;
  }));
}

const given = picture => picture.labels.filter(isGiven);

function show(picture) {
  current = picture;
  chosen = null;
  find(".result").hidden = false;
  const image = find(".frame img");
  image.src = picture.source;
  image.alt = picture.name;
  find(".graph").hidden = !picture.graph;
  find(".graph div").innerHTML = picture.graph || "";
  drawStrip();
  drawLabels();
  drawWhy();
}

function summarize() {
  const names = given(current).map(label => label.name);
  say(names.length ? names.join(", ") : "Nothing found.");
}

function drawLabels() {
  const found = given(current), others = current.labels.filter(label => !isGiven(label)).slice(0, Math.max(SHOWN - found.length, 2));
  const bar = label => {
    const item = create("li"), button = create("button"), track = create("span", undefined, "track");
    button.type = "button";
    button.setAttribute("aria-pressed", label === chosen);
    const length = create("i"), mark = create("b");
    length.style.width = `${100 * label.score}%`;
    mark.style.left = `${100 * (own ? label.threshold : threshold)}%`;
    track.append(length, mark);
    button.append(create("span", label.name), track, create("span", label.score.toFixed(2), "number"));
    button.addEventListener("click", () => choose(label));
    button.dataset.label = label.name;
    item.append(button);
    return item;
  };
  const focused = document.activeElement?.dataset?.label;
  find(".found").replaceChildren(...found.map(bar));
  find(".others").replaceChildren(...others.map(bar));
  find(".less").hidden = !others.length;
  const nothing = find(".nothing");
  nothing.hidden = found.length > 0;
  const nearest = current.labels[0];
  nothing.textContent = `Nothing in this picture reaches the threshold. Closest is ${nearest.name} (${nearest.score.toFixed(2)}): lower the threshold to see more, or try another picture.`;
  if (focused) for (const button of element.querySelectorAll(".bars button")) if (button.dataset.label === focused) button.focus();
  find("output").textContent = own ? "its own" : threshold.toFixed(2);
  find("#af-threshold").value = threshold;
  find("#af-own").checked = own;
}

async function choose(label) {
  chosen = label === chosen ? null : label;
  drawLabels();
  if (chosen && !current.places && settings.locates) {
    const picture = current;
    say("Looking where …");
    find("figcaption").textContent = "Looking where …";
    try {
      picture.located ??= server.locate({ picture: picture.url });
      picture.places = (await picture.located).places;
    } catch (error) {
      picture.located = undefined;
      chosen = null;
      complain(`${picture.name}: the server does not say where; click the label again.`);
    }
    if (picture !== current) return;
    drawLabels();
    summarize();
  }
  drawWhy();
}

function drawWhy() {
  const frame = find(".frame"), caption = find("figcaption"), why = find(".why");
  why.replaceChildren();
  frame.classList.toggle("lit", Boolean(chosen && current.places));
  caption.textContent = chosen ? "" : "Click a label: where was it seen, and why?";
  if (!chosen) return;
  if (current.places) {
    const place = current.places[current.labels.indexOf(chosen)];
    const most = Math.max(...place.flat().map(Math.abs)) || 1;  // each label has a scale of its own
    const against = place.flat().some(value => value < -0.1 * most);
    paint(place, most, against);
    caption.textContent = `Blue: what speaks for ${chosen.name}${against ? "; orange: against it" : ""}; the darker, the more.`;
  }
  const line = create("p"), name = create("b", chosen.name);
  const itself = isGiven(chosen) ? "from the picture itself" : "the picture itself speaks against it";
  line.append(name, ` ${chosen.score.toFixed(2)}: ${chosen.why || itself}.`);
  why.append(line);
  if (chosen.others !== undefined) {
    const parts = `the picture ${signed(chosen.logit - chosen.others)}, other labels ${signed(chosen.others)}`;
    const named = chosen.named.map(([other, part]) => `${other} ${signed(part)}`).join(", ");
    why.append(create("p", `In numbers: ${parts} (most of it ${named}), together ${signed(chosen.logit)}.`, "quiet"));
  }
}

function paint(place, most, against) {
  const canvas = find("canvas");
  canvas.height = place.length;
  canvas.width = place[0].length;
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height);
  place.flat().forEach((value, i) => {
    const colour = value < 0 ? AGAINST : FOR;
    image.data.set([...colour, value < 0 && !against ? 0 : 255 * 0.8 * Math.min(Math.abs(value) / most, 1) ** 0.75], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

async function camera() {
  const dialog = find("dialog"), video = find("video");
  find(".trouble").replaceChildren();
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    return complain("There is no camera here, or the browser may not use it. Choose a picture instead.");
  }
  video.srcObject = stream;
  await video.play();
  dialog.showModal();
  dialog.addEventListener("close", () => stream.getTracks().forEach(track => track.stop()), { once: true });
}

function take() {
  const video = find("video"), canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  canvas.toBlob(blob => {
    find("dialog").close();
    give([new File([blob], "photograph.jpg", { type: "image/jpeg" })]);
  }, "image/jpeg", 0.95);
}

const input = find("#af-files"), drop = find(".drop");
input.addEventListener("change", () => {
  give(input.files);
  input.value = "";
});
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, event => { event.preventDefault(); drop.classList.add("over"); });
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
drop.addEventListener("drop", event => {
  event.preventDefault();
  give(event.dataTransfer.files);
});
document.addEventListener("paste", event => {
  const files = [...(event.clipboardData?.files || [])].filter(file => file.type.startsWith("image/"));
  if (files.length) give(files);
});
find(".camera").addEventListener("click", camera);
find(".take").addEventListener("click", take);
find(".close").addEventListener("click", () => find("dialog").close());
for (const button of element.querySelectorAll(".example")) {
  button.addEventListener("click", async () => {
    const url = await server.sample(Number(button.dataset.number));
    const content = Uint8Array.from(atob(url.split(",")[1]), letter => letter.charCodeAt(0));
    give([new File([content], button.innerText.trim(), { type: "image/jpeg" })]);
  });
}
find(".own").hidden = !settings.own;
find("#af-own").addEventListener("change", event => { own = event.target.checked; redraw(); });
find("#af-threshold").addEventListener("input", event => {
  threshold = Number(event.target.value);
  own = false;
  redraw();
});
function redraw() {
  drawLabels();
  drawStrip();
  drawWhy();
  summarize();
}
find(".strip").hidden = true;
