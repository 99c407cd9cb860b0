"use strict";
for (const chart of document.querySelectorAll(".chart")) {
  const series = JSON.parse(chart.dataset.series);
  const drawing = chart.querySelector("svg");
  const cross = chart.querySelector(".cross");
  const under = chart.querySelector(".under");
  const show = (event) => {
    const frame = drawing.getBoundingClientRect();
    const x = ((event.clientX - frame.left) / frame.width) * drawing.viewBox.baseVal.width;
    const near = series.map(({ name, points }) => {
      const point = points.reduce((best, one) => (Math.abs(one[2] - x) < Math.abs(best[2] - x) ? one : best));
      return { name, point };
    });
    const at = near[0].point;
    cross.setAttribute("x1", at[2]);
    cross.setAttribute("x2", at[2]);
    cross.setAttribute("visibility", "visible");
    const values = near.map(({ name, point }) => `${name} ${Number(point[1].toPrecision(4))}`).join(", ");
    under.textContent = `${chart.dataset.x} ${Math.round(at[0])}: ${values}`;
  };
  drawing.addEventListener("pointermove", show);
  drawing.addEventListener("pointerleave", () => {
    cross.setAttribute("visibility", "hidden");
    under.textContent = "";
  });
}
