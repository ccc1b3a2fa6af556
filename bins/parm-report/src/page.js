"use strict";
// The text of a point appears beside it, under the pointer and with the arrow keys. Without scripts, the browser shows it.
const hint = document.getElementById("hint");
let at = null;
function show(point) {
  if (at) at.classList.remove("at");
  at = point;
  hint.hidden = !point;
  if (!point) return;
  point.classList.add("at");
  hint.textContent = point.dataset.hint;
  const place = point.getBoundingClientRect(), own = hint.getBoundingClientRect();
  hint.style.left = Math.max(4, Math.min(place.right + 6, innerWidth - own.width - 4)) + "px";
  hint.style.top = Math.max(4, place.top - own.height - 4) + "px";
}
for (const point of document.querySelectorAll(".point")) {
  const title = point.querySelector("title");
  point.dataset.hint = title.textContent;
  title.remove();
}
for (const svg of document.querySelectorAll(".plot svg")) {
  const points = [...svg.querySelectorAll(".point")];
  svg.addEventListener("pointerover", event => show(event.target.closest(".point")));
  svg.addEventListener("pointerleave", () => show(null));
  if (!points.length) continue;
  svg.tabIndex = 0;
  svg.addEventListener("blur", () => show(null));
  svg.addEventListener("keydown", event => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (event.key === "Escape") return show(null);
    if (!step) return;
    event.preventDefault();
    const here = points.indexOf(at);
    show(points[here < 0 ? (step > 0 ? 0 : points.length - 1) : (here + step + points.length) % points.length]);
  });
}
