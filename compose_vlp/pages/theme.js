"use strict";
document.addEventListener("click", (event) => {
  if (!(event.target instanceof Element) || !event.target.closest(".theme")) return;
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});
