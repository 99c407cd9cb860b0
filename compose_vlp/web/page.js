"use strict";
const drop = document.getElementById("drop");
const file = document.getElementById("file");
const shown = document.getElementById("shown");
const sections = [...document.querySelectorAll("section[data-ask]")];
let picture = "";
let taken = 0;

function take(blob) {
  if (!blob) return;
  const mine = ++taken;
  const reader = new FileReader();
  reader.onload = () => {
    if (mine !== taken) return;
    picture = reader.result.slice(reader.result.indexOf(",") + 1);
    URL.revokeObjectURL(shown.src);
    shown.src = URL.createObjectURL(blob);
    shown.hidden = false;
    document.getElementById("words").hidden = true;
    for (const section of sections) {
      section.querySelector("button").disabled = false;
      section.querySelector(".answer").replaceChildren();
    }
  };
  reader.readAsDataURL(blob);
}

function element(name, words, kind = "") {
  const made = document.createElement(name);
  made.textContent = words;
  made.className = kind;
  return made;
}

function answered(answer) {
  if (answer.error !== undefined) return [element("div", answer.error, "mistake")];
  if (answer.text !== undefined) return [element("div", answer.text || "(no word)", "said")];
  if (answer.picture !== undefined) {
    const image = element("img", "");
    image.alt = "where the text is seen";
    image.src = answer.picture;
    return [image];
  }
  return answer.scores.map((scored) => {
    const row = element("div", "", "row");
    row.append(element("span", scored.text), element("span", scored.score === null ? "no word" : scored.score.toFixed(3)));
    return row;
  });
}

async function ask(section) {
  const box = section.querySelector("input, textarea");
  const button = section.querySelector("button");
  const place = section.querySelector(".answer");
  const question = { ask: section.dataset.ask, output: section.dataset.output, picture };
  if (box && box.tagName === "TEXTAREA") question.texts = box.value.split("\n").filter((line) => line.trim());
  else if (box) question.text = box.value;
  const mine = taken;
  button.disabled = true;
  place.replaceChildren(element("div", "...", "dim"));
  let answer;
  try {
    const response = await fetch("/answer", {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(question),
    });
    answer = response.status === 503 ? { error: "too many questions at once: ask again" } : await response.json();
  } catch {
    answer = { error: "the server does not answer" };
  }
  button.disabled = false;
  if (mine === taken) place.replaceChildren(...answered(answer));
}

file.addEventListener("change", () => take(file.files[0]));
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop") take(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
for (const section of sections) {
  section.querySelector("button").addEventListener("click", () => ask(section));
  section.querySelector("input")?.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && picture) ask(section);
  });
}
