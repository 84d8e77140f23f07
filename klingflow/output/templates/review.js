"use strict";
(() => {
  const modes = document.querySelector(".modes");
  if (!modes) return;
  const slides = document.querySelectorAll(".slide");
  let blinking = 0;
  modes.hidden = false;
  for (const halves of document.querySelectorAll(".both .halves")) {
    const first = halves.querySelector("img");
    if (first) halves.style.setProperty("--shape", `${first.getAttribute("width")} / ${first.getAttribute("height")}`);
  }
  const show = (mode) => {
    document.body.dataset.mode = mode;
    for (const slide of slides) slide.hidden = mode !== "slider";
    clearInterval(blinking);
    document.body.dataset.shown = "before";
    if (mode === "blink") {
      blinking = setInterval(() => {
        document.body.dataset.shown = document.body.dataset.shown === "now" ? "before" : "now";
      }, 700);
    }
  };
  const move = (slide) => slide.parentElement.querySelector(".halves").style.setProperty("--at", `${slide.value}%`);
  modes.addEventListener("change", (event) => show(event.target.value));
  for (const slide of slides) slide.addEventListener("input", () => move(slide));
  show(modes.querySelector("input:checked").value);
})();
