"use strict";
(() => {
  const dialogs = [...document.querySelectorAll("dialog[data-shot]")];
  const buttons = [...document.querySelectorAll(".strip button[data-open]")];
  const named = (id) => dialogs.find((one) => one.dataset.shot === id);
  let from = null; // the button that opened a shot
  let seam = ""; // where to go when the open shot has closed

  function quiet(box) {
    for (const video of box.querySelectorAll("video")) video.pause();
  }

  function place(hash) {
    try { history.replaceState(null, "", hash || location.pathname + location.search); } catch { /* some file viewers */ }
  }

  function open(id, origin) {
    const to = named(id);
    if (!to || to.open) return;
    for (const other of dialogs) if (other.open) other.close();
    for (const video of document.querySelectorAll(".screen video")) video.pause();
    if (origin && !origin.closest("dialog")) from = origin;
    to.showModal();
    to.scrollTop = 0;
    place("#" + id);
  }

  for (const box of dialogs) {
    box.addEventListener("close", () => {
      quiet(box);
      if (document.querySelector("dialog[open]")) return; // another shot came in its place
      place("");
      if (seam) {
        location.hash = seam;
        document.querySelector(seam).focus();
        seam = "";
        return;
      }
      const button = buttons.find((one) => one.dataset.open === box.dataset.shot);
      const back = from && from.dataset.open === box.dataset.shot ? from : button || from;
      if (back && back.focus) back.focus();
    });
    box.addEventListener("click", (event) => { if (event.target === box) box.close(); });
  }

  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) return open(opener.dataset.open, opener);
    const box = event.target.closest("dialog");
    if (!box) return;
    if (event.target.closest("[data-close]")) box.close();
    const leads = event.target.closest("a[href^='#seam-']");
    if (leads) {
      event.preventDefault();
      seam = leads.getAttribute("href");
      box.close();
    }
    const go = event.target.closest("[data-go]");
    if (go) step(box, Number(go.dataset.go));
  });

  function step(box, by) {
    const next = dialogs[dialogs.indexOf(box) + by];
    if (next) open(next.dataset.shot);
  }

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const box = document.querySelector("dialog[open]");
    if (box) {
      const video = box.querySelector(".look > video");
      if (by && event.target.tagName !== "VIDEO") { event.preventDefault(); step(box, by); }
      if (event.key === " " && video && !event.target.closest("button, a, video")) {
        event.preventDefault();
        if (video.paused) video.play().catch(() => {}); else video.pause();
      }
      return;
    }
    if (!by || event.target.tagName === "VIDEO") return;
    const at = buttons.indexOf(document.activeElement);
    const to = at < 0 ? buttons[by > 0 ? 0 : buttons.length - 1] : buttons[at + by];
    if (to) { event.preventDefault(); to.focus(); }
  });

  const marks = [...document.querySelectorAll(".spine [data-open], .spine .arc")];
  function light(id) {
    for (const one of marks) {
      const mine = one.dataset.open === id || one.dataset.from === id || one.dataset.to === id;
      one.classList.toggle("lit", Boolean(id) && mine);
    }
  }
  for (const button of buttons) {
    for (const kind of ["mouseenter", "focus"]) button.addEventListener(kind, () => light(button.dataset.open));
    for (const kind of ["mouseleave", "blur"]) button.addEventListener(kind, () => light(""));
  }

  if (location.hash.length > 1) {
    const id = decodeURIComponent(location.hash.slice(1));
    if (named(id)) open(id);
  }
})();
