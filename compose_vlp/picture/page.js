"use strict";
(() => {
  const { boxes, arrows } = JSON.parse(document.getElementById("data").textContent);
  const canvas = document.getElementById("canvas");
  const panel = document.getElementById("panel");
  const drawing = canvas.querySelector("svg");
  const shapes = new Map([...drawing.querySelectorAll("[data-box]")].map((g) => [g.dataset.box, g]));
  const wires = [...drawing.querySelectorAll(".arrow")];
  const natural = drawing.viewBox.baseVal.width;
  let zoom = 1;
  let chosen = null;

  // --- elements ------------------------------------------------------------------------------------------------
  const make = (name, attributes, ...children) => {
    const element = document.createElement(name);
    Object.assign(element, attributes);
    element.append(...children);
    return element;
  };
  const table = (rows) =>
    make("table", {}, ...rows.map(([key, value]) =>
      make("tr", {}, make("td", {}, key), make("td", {}, value))));
  const section = (heading, ...children) => [make("h3", { textContent: heading }), ...children];
  const full = (id) => (boxes[id].world ? `${boxes[id].world}.` : "") + boxes[id].title;
  const link = (id, words) =>
    make("button", { className: "link", type: "button", onclick: () => choose(id, true) }, words);

  // --- the panel -----------------------------------------------------------------------------------------------
  const overview = () => {
    const seen = new Map();
    for (const [id, box] of Object.entries(boxes)) {
      if (box.share > 0 && !box.world && !seen.has(box.twin)) seen.set(box.twin, [id, box]);
    }
    const rows = [...seen.values()].sort((a, b) => b[1].share - a[1].share).map(([id, box]) => {
      const bar = make("div", { className: "bar" });
      bar.style.width = `${Math.max(100 * box.share, 0.5)}%`;
      return [link(id, box.title), make("span", {}, box.notes[0] || "", bar)];
    });
    panel.replaceChildren(
      make("h2", { textContent: "What is in it" }),
      make("p", { className: "dim", textContent: "Choose a box to see its settings, its shapes, what it reads and who reads it." }),
      ...(rows.length ? section("Parameters", table(rows)) : []),
    );
  };
  const explain = (id) => {
    const box = boxes[id];
    const flags = [box.family, box.world && `world of ${box.world}`, box.frozen && "frozen", box.pruned && "pruned"];
    const reads = arrows.filter(([, target]) => target === id).map(([source, , port, field]) =>
      [port || "reads", link(source, (boxes[source].name || full(source)) + (field ? `.${field}` : ""))]);
    const readers = arrows.filter(([source]) => source === id).map(([, target, port]) =>
      [full(target), link(target, boxes[target].name || port || full(target))]);
    const twins = Object.keys(boxes).filter((other) => box.twin && boxes[other].twin === box.twin && other !== id);
    panel.replaceChildren(
      make("h2", { textContent: full(id) }),
      make("div", { className: "dim", textContent: box.notes.join(", ") }),
      ...flags.filter(Boolean).map((words) => make("span", { className: "flag", textContent: words })),
      ...(box.carries ? section("Gives", table([[box.name || "value", box.carries]])) : []),
      ...(reads.length ? section("Reads", table(reads)) : []),
      ...(readers.length ? section("Is read by", table(readers)) : []),
      ...(twins.length
        ? section("Other calls of it", table(twins.map((other) => [link(other, full(other)), boxes[other].name || boxes[other].carries])))
        : []),
      ...box.details.flatMap(([heading, rows]) => section(heading, table(rows))),
    );
    panel.scrollTop = 0;
  };

  // --- choosing ------------------------------------------------------------------------------------------------
  const reach = (id, from, to) => {
    const found = new Set([id]);
    const waiting = [id];
    while (waiting.length) {
      const at = waiting.pop();
      for (const arrow of arrows) {
        if (arrow[from] === at && !found.has(arrow[to])) {
          found.add(arrow[to]);
          waiting.push(arrow[to]);
        }
      }
    }
    return found;
  };
  const choose = (id, scroll) => {
    chosen = id;
    const lineage = id ? new Set([...reach(id, 1, 0), ...reach(id, 0, 1)]) : null;
    for (const [other, shape] of shapes) {
      const twin = id && boxes[id].twin && boxes[other].twin === boxes[id].twin;
      shape.classList.toggle("chosen", other === id);
      shape.classList.toggle("twin", Boolean(twin) && other !== id);
      shape.classList.toggle("faded", Boolean(lineage) && !lineage.has(other) && !twin);
    }
    for (const wire of wires) {
      const { from, to } = wire.dataset;
      wire.classList.toggle("near", id === from || id === to);
      wire.classList.toggle("faded", Boolean(lineage) && !(lineage.has(from) && lineage.has(to)));
    }
    if (id) explain(id);
    else overview();
    if (id && scroll) shapes.get(id).scrollIntoView({ block: "nearest", inline: "nearest", behavior: "smooth" });
  };
  for (const [id, shape] of shapes) {
    shape.setAttribute("tabindex", "0");
    shape.setAttribute("role", "button");
    shape.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        choose(id, false);
      }
    });
  }
  document.addEventListener("keydown", (event) => event.key === "Escape" && choose(null, false));

  // --- zooming and dragging ------------------------------------------------------------------------------------
  const resize = (wanted, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) => {
    const next = Math.min(Math.max(wanted, 0.15), 4);
    const [left, top] = [canvas.scrollLeft + x, canvas.scrollTop + y];
    drawing.style.width = `${natural * next}px`;
    canvas.scrollLeft = (left * next) / zoom - x;
    canvas.scrollTop = (top * next) / zoom - y;
    zoom = next;
  };
  const fit = () => resize(Math.min(1, Math.max(canvas.clientWidth / natural, 0.45)));
  document.querySelector(".buttons").addEventListener("click", (event) => {
    const what = event.target.dataset.zoom;
    if (what === "fit") fit();
    else if (what) resize(zoom * (what === "in" ? 1.25 : 0.8));
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const frame = canvas.getBoundingClientRect();
    resize(zoom * Math.exp(-event.deltaY / 300), event.clientX - frame.left, event.clientY - frame.top);
  }, { passive: false });
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.pointerType !== "mouse" || event.button) return;
    drag = { x: event.clientX, y: event.clientY, left: canvas.scrollLeft, top: canvas.scrollTop, moved: false };
  });
  addEventListener("pointermove", (event) => {
    if (!drag) return;
    drag.moved = drag.moved || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) > 4;
    if (!drag.moved) return;
    canvas.classList.add("dragging");
    canvas.scrollTo(drag.left + drag.x - event.clientX, drag.top + drag.y - event.clientY);
  });
  addEventListener("pointerup", () => {
    canvas.classList.remove("dragging");
    setTimeout(() => (drag = null));
  });
  canvas.addEventListener("click", (event) => {
    if (drag && drag.moved) return;
    const shape = event.target.closest("[data-box]");
    choose(shape ? shape.dataset.box : null, false);
  });

  fit();
  const wanted = decodeURIComponent(location.hash.slice(1));
  choose(boxes[wanted] ? wanted : null, true);
})();
