"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes ?? {})) {
      if (name in element && typeof value !== "string") element[name] = value;
      else element.setAttribute(name, value);
    }
    element.append(...children.filter((child) => child !== null));
    return element;
  };
  const chip = (text, kind) => make("span", { class: `chip ${kind ?? ""}` }, text);

  // -- all takes of a shot on one clock

  const player = {
    videos: [],
    rate: 24,
    frames: 1,
    time: 0,
    speed: 0, // 0 stands still; below it goes backwards
    loop: true,
    sound: false,
    last: 0,

    load(videos, rate, frames) {
      this.videos = videos;
      this.rate = rate;
      this.frames = frames;
      this.time = 0;
      this.set(0);
      $("transport").hidden = videos.length === 0;
      $("scrub").max = frames - 1;
      this.show();
    },
    length() {
      return this.frames / this.rate;
    },
    frame() {
      return Math.min(this.frames - 1, Math.floor(this.time * this.rate + 1e-6));
    },
    good() {
      return this.videos.filter((video) => !video.error && video.readyState > 0);
    },
    seek(time) {
      this.time = Math.min(Math.max(0, time), (this.frames - 0.5) / this.rate);
      for (const video of this.good()) video.currentTime = Math.min(this.time, video.duration - 0.5 / this.rate);
      this.show();
    },
    toFrame(frame) {
      this.set(0);
      this.seek((Math.min(Math.max(0, frame), this.frames - 1) + 0.5) / this.rate);
    },
    set(speed) {
      const was = this.speed;
      this.speed = speed;
      if (speed <= 0) for (const video of this.videos) video.pause();
      if (speed && !was) {
        if (speed > 0 && this.frame() >= this.frames - 1) this.seek(0);
        this.last = performance.now();
        requestAnimationFrame((now) => this.tick(now));
      }
      $("play").textContent = speed ? "Pause" : "Play";
    },
    tick(now) {
      if (!this.speed) return;
      const passed = Math.min(0.25, (now - this.last) / 1000) * this.speed;
      this.last = now;
      if (this.speed > 0) this.forwards(passed);
      else this.backwards(passed);
      requestAnimationFrame((next) => this.tick(next));
    },
    forwards(passed) {
      const playing = this.good().filter((video) => this.time < video.duration - 0.5 / this.rate);
      if (playing.some((video) => video.readyState < 3 || video.seeking)) {
        for (const video of this.videos) video.pause(); // one has to catch up: all wait for it
        return;
      }
      this.time += passed;
      if (this.time >= this.length()) {
        if (!this.loop) this.toFrame(this.frames - 1);
        else this.seek(0);
        return;
      }
      for (const video of playing) {
        const ahead = video.currentTime - this.time;
        if (Math.abs(ahead) > 0.2) video.currentTime = this.time;
        video.playbackRate = this.speed * (1 - Math.min(0.1, Math.max(-0.1, ahead)));
        if (video.paused) video.play().catch(() => {});
      }
      this.show();
    },
    backwards(passed) {
      if (this.good().some((video) => video.seeking)) return;
      this.time += passed;
      if (this.time <= 0) this.toFrame(0);
      else this.seek(this.time);
    },
    show() {
      const frame = this.frame();
      $("scrub").value = frame;
      const text = `${(frame / this.rate).toFixed(2)} s, frame ${frame}`;
      $("clock").textContent = text;
      $("scrub").setAttribute("aria-valuetext", text);
    },
    hear(looked) {
      for (const video of this.videos) video.muted = !(this.sound && video === looked);
      $("sound").setAttribute("aria-pressed", String(this.sound));
    },
  };

  // -- what the server knows

  let version = "";
  let choices = [];
  let current = null; // the id of the choice that is shown
  let looked = null; // the take that is looked at
  let shown = ""; // what the grid was built from
  let considered = null; // what follows from it, as it was told
  let asked = 0;

  const id = (choice) => `${choice.variant}/${choice.name}`;
  const choice = () => choices.find((one) => id(one) === current);
  const candidate = () => choice()?.candidates.find((one) => one.take === looked);
  const label = (one) => {
    const name = one.frame ? `${one.name.split(".")[0]}, ${one.frame.replace("_", " ")}` : one.name;
    return one.variant ? `${name} [${one.variant}]` : name;
  };
  const noun = (one) => (one.frame ? "still" : "take");
  const called = (one, take) => (one.frame ? `Still ${take}` : `Take ${take}`);

  const ask = async (path, data) => {
    const answer = await fetch(path, data && {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(data),
    });
    return answer.ok ? answer.json() : { what: `The server says ${answer.status}`, mend: "" };
  };

  const fault = (text) => {
    $("fault").hidden = !text;
    if ($("fault").textContent !== text) $("fault").textContent = text;
    $("live").textContent = text ? "not up to date" : "up to date";
    $("live").className = `chip ${text ? "bad" : "good"}`;
  };

  const refresh = async () => {
    let found;
    try {
      found = await ask(`api/state?known=${version}`);
    } catch {
      fault("klingflow takes has ended. Start it again in the terminal: the page then has another address.");
      return;
    }
    if (found.what) return fault(found.mend ? `${found.what}\n${found.mend}` : found.what);
    fault("");
    if (found.version === version) return;
    ({ version, choices } = found);
    $("app").hidden = false;
    if (!choice()) {
      const undecided = choices.find((one) => one.take === null); // nothing that needs it is bought before
      const open = choices.find((one) => one.candidates.length > 1 && !one.picked);
      show(undecided ?? open ?? choices.find((one) => one.candidates.length) ?? choices[0]);
    } else {
      draw();
      consider();
    }
  };

  const watch = async () => {
    const began = performance.now();
    if (!document.hidden) await refresh();
    setTimeout(watch, Math.max(2000, 5 * (performance.now() - began)));
  };

  // -- showing it

  const show = (one, focus) => {
    if (!one) {
      $("shot").textContent = "The storyboard has no shot that is made.";
      return;
    }
    current = id(one);
    looked = one.candidates.find((each) => each.take === one.take)?.take ?? one.candidates[0]?.take ?? null;
    $("why").value = "";
    $("said").textContent = "";
    draw();
    consider();
    document.querySelector("#shots [aria-current=true]")?.scrollIntoView({ block: "nearest", inline: "nearest" });
    if (focus) $("shot").focus();
  };

  const draw = () => {
    drawShots();
    const one = choice();
    $("shot").textContent = one.title ? `${label(one)}: ${one.title}` : label(one);
    $("prompt").textContent = one.prompt;
    const built = JSON.stringify([current, one.candidates.map((each) => [each.take, each.clip, each.here]), one.unmade]);
    if (built !== shown) drawGrid(one);
    shown = built;
    for (const each of one.candidates) mark(one, each);
    drawDecision();
  };

  const standing = (one) => {
    const takes = one.candidates.length;
    if (!takes) return "not made yet";
    if (one.take === null) return `${takes} stills, none chosen`;
    const which = takes === 1 ? "1 take" : `${noun(one)} ${one.take} of ${takes}`;
    const gate = one.gate === null ? "" : one.gate ? ", gate closed" : ", gate open";
    return which + (one.picked ? ", chosen" : "") + gate;
  };

  const drawShots = () => {
    const list = $("shots");
    const old = new Map([...list.children].map((button) => [button.dataset.id, button]));
    list.replaceChildren(
      ...choices.map((one) => {
        const button = old.get(id(one)) ?? make("button", { type: "button", "data-id": id(one) });
        button.setAttribute("aria-current", String(id(one) === current));
        button.replaceChildren(label(one), make("small", null, standing(one)));
        return button;
      }),
    );
  };

  const drawGrid = (one) => {
    const videos = [];
    const cards = one.candidates.map((each) => {
      const name = called(one, each.take);
      let picture = make("p", null, "Its clip is not in this store.");
      if (one.frame) {
        picture = make("img", { alt: `${name}: ${each.facts[0]}`, src: `media/${each.clip}` });
        picture.style.aspectRatio = `${each.width} / ${each.height}`;
      } else if (each.here) {
        picture = make("video", { muted: true, playsInline: true, preload: "auto", "aria-label": `${name} of ${label(one)}` });
        picture.style.aspectRatio = `${each.width} / ${each.height}`;
        picture.src = `media/${each.clip}`;
        picture.addEventListener("error", () => {
          picture.replaceWith(make("p", null, "This browser cannot play the clip."));
        });
        videos.push(picture);
      }
      const card = make(
        "article",
        { class: "take card", "data-take": String(each.take), tabindex: "-1", "aria-label": name },
        make("h3", null),
        picture,
        make("ul", null, ...each.facts.map((fact) => make("li", null, fact))),
        make("button", { type: "button", "aria-keyshortcuts": String(each.take) }, `Look at ${noun(one)} ${each.take}`),
      );
      card.addEventListener("click", () => look(each.take));
      return card;
    });
    for (const each of one.unmade) {
      const state = each.under_way ? chip("being made", "accent") : chip("not made yet");
      cards.push(make("article", { class: "take card unmade", "aria-label": `Take ${each.take}` },
        make("h3", null, `Take ${each.take}`, state), make("p", { class: "soft" }, each.reason)));
    }
    $("grid").replaceChildren(...cards);
    const longest = one.candidates.reduce((most, each) => (each.frames > most.frames ? each : most), { frames: 1, rate: 24 });
    $("transport").setAttribute("aria-label", `Playback of all takes of ${label(one)} together`);
    player.load(videos, longest.rate, longest.frames);
  };

  const card = (take) => document.querySelector(`.take[data-take="${take}"]`);

  const mark = (one, each) => {
    const element = card(each.take);
    const counts = each.take === one.take;
    element.classList.toggle("looked", each.take === looked);
    element.querySelector("button").setAttribute("aria-pressed", String(each.take === looked));
    element.querySelector("h3").replaceChildren(
      called(one, each.take),
      ...[
        counts && chip("counts", "accent"),
        counts && one.picked && chip("chosen", "good"),
        each.stale && chip("stale", "warn"),
      ].filter(Boolean),
    );
  };

  const look = (take, focus) => {
    if (!choice()?.candidates.some((each) => each.take === take)) return;
    looked = take;
    $("said").textContent = "";
    for (const each of choice().candidates) mark(choice(), each);
    player.hear(card(take).querySelector("video"));
    if (focus) card(take).focus();
    consider();
  };

  const consider = async () => {
    considered = null;
    drawDecision();
    if (!candidate()) return;
    const mine = ++asked;
    const found = await ask("api/consider", { name: choice().name, take: looked }).catch(() => ({ what: "No answer" }));
    if (mine !== asked) return;
    considered = found.what ? { wrong: `${found.what}. ${found.mend ?? ""}` } : found;
    drawDecision();
  };

  const drawDecision = () => {
    const one = choice();
    const each = candidate();
    $("decision").hidden = !each;
    if (!each) return;
    const counts = each.take === one.take;
    $("chosen").textContent = `${called(one, each.take)} of ${label(one)}`;
    const pick = one.pick && one.pick.take === each.take ? one.pick : null;
    const by = pick && `chosen by ${pick.by} on ${pick.date}${pick.why ? `: “${pick.why}”` : ""}`;
    const gate = one.gate ? ` The gate is closed: ${one.gate}.` : one.gate === "" ? " The gate is open." : "";
    const other = one.take === null ? `No ${noun(one)} is chosen yet.` : `${called(one, one.take)} counts now.`;
    $("now").textContent = counts
      ? `It counts now${by && one.picked ? `, ${by}` : "; nobody has chosen it yet"}.${gate}`
      : `${other}${one.variant ? " A choice counts in every film of the matrix." : ""}`;
    $("follows").replaceChildren(...follows(each, counts));
    $("confirm").textContent = `${counts ? "Confirm" : "Choose"} ${noun(one)} ${each.take}`;
    $("confirm").disabled = !considered || Boolean(considered.wrong);
  };

  const follows = (each, counts) => {
    if (!considered) return [make("p", { class: "soft" }, "Working out what it costs …")];
    if (considered.wrong) return [make("p", null, considered.wrong)];
    const out = [];
    if (each.stale) out.push(make("p", null, "Stale: the shot asks for another clip by now, so this take is made anew."));
    if (considered.stale.length) {
      out.push(make("p", { class: "costs" }, "To be made because of it, ", make("strong", null, considered.spend), ":"));
      out.push(
        make("table", null, make("tbody", null, ...considered.stale.map((effect) => make("tr", null,
          make("td", null, effect.name), make("td", { class: "soft" }, effect.reason),
          make("td", { class: "number price" }, effect.price))))),
      );
    } else if (!counts) {
      out.push(make("p", null, "Nothing has to be made because of it."));
    }
    if (considered.spared.length) {
      out.push(make("p", null, `No longer to be made: ${considered.spared.map((effect) => effect.name).join(", ")}.`));
    }
    if (!counts || considered.stale.length) out.push(make("p", { class: "soft" }, `A run would then spend ${considered.run} in all.`));
    return out;
  };

  const confirm = async () => {
    if ($("confirm").disabled) return;
    const one = choice();
    $("confirm").disabled = true;
    const data = { name: one.name, take: looked, why: $("why").value, state: considered.state };
    const found = await ask("api/choose", data).catch(() => ({ what: "No answer" }));
    if (!found.what) {
      $("why").value = "";
      $("why").blur();
      $("said").textContent = found.edited
        ? `${called(one, found.take)} of ${label(one)} counts now: ${found.file} says so, and the lock that ${found.by} chose it.`
        : `The lock says that ${found.by} chose ${noun(one)} ${found.take} of ${label(one)}.`;
    } else {
      $("said").textContent = `Nothing was chosen: ${found.what}. ${found.mend ?? ""}`;
    }
    await refresh();
    drawDecision();
    if (found.what) consider();
  };

  const beside = (steps) => {
    const at = choices.findIndex((one) => id(one) === current);
    const next = choices[at + steps];
    if (next) show(next, true);
  };

  // -- hands

  const toggleSound = () => {
    player.sound = !player.sound;
    player.hear(card(looked)?.querySelector("video"));
  };
  const toggle = () => player.set(player.speed ? 0 : 1);
  const second = (direction) => player.toFrame(player.frame() + Math.round(direction * player.rate));

  const keys = {
    " ": toggle,
    k: toggle,
    l: () => player.set(player.speed > 0 ? Math.min(4, player.speed * 2) : 1),
    j: () => player.set(player.speed < 0 ? Math.max(-4, player.speed * 2) : -1),
    ",": () => player.toFrame(player.frame() - 1),
    ".": () => player.toFrame(player.frame() + 1),
    m: toggleSound,
    n: () => $("why").focus(),
    Enter: confirm,
    ArrowUp: () => beside(-1),
    ArrowDown: () => beside(1),
    ArrowLeft: () => second(-1),
    ArrowRight: () => second(1),
    Home: () => player.toFrame(0),
    End: () => player.toFrame(player.frames - 1),
  };
  for (let take = 1; take <= 9; take += 1) keys[take] = () => look(take, true);

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target;
    if (target === $("why")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (key.length === 1 && !$("keys").checked) return;
    const pressing = key === "Enter" || key === " ";
    if (pressing && target.closest("button, summary, a, input")) return; // it is that which is pressed
    if (target.type === "range" && key.startsWith("Arrow")) return;
    const act = keys[key];
    if (!act) return;
    event.preventDefault();
    act();
  });

  // A button that the mouse has pressed lets go of the keys.
  document.addEventListener("click", (event) => {
    if (event.detail && event.target.closest("button")) document.activeElement?.blur();
  });
  $("shots").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) show(choices.find((one) => id(one) === button.dataset.id));
  });
  $("play").addEventListener("click", toggle);
  $("back").addEventListener("click", keys[","]);
  $("forward").addEventListener("click", keys["."]);
  $("loop").addEventListener("click", () => {
    player.loop = !player.loop;
    $("loop").setAttribute("aria-pressed", String(player.loop));
  });
  $("sound").addEventListener("click", toggleSound);
  $("scrub").addEventListener("input", () => player.toFrame(Number($("scrub").value)));
  $("decision").addEventListener("submit", (event) => {
    event.preventDefault();
    confirm();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) refresh();
  });
  watch();
})();
