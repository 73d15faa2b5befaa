// The powerset in a report: which modalities are given, and what the posterior of that subset generates.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("powerset-data").textContent);
  const play = document.getElementById("powerset-play");
  const LONG = 8; // letters; longer texts get a line of their own
  const WIDE = 64; // pixels of a tile, at most

  const element = (tag, name, text = "") => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = text;
    return made;
  };
  const within = (parent, ...children) => (parent.append(...children), parent);

  // A tile of one tuple: `show(row)` shows row 0, the tuple's own, or that of a subset.
  const tile = (modality, index, kind) => {
    const made = element("div", `tile ${kind}`);
    if (modality.texts) {
      made.show = (row) => (made.textContent = modality.texts[row][index] || "\u00a0");
      return made;
    }
    const scale = Math.max(1, Math.floor(WIDE / Math.max(modality.width, modality.height)));
    const [width, height] = [scale * modality.width, scale * modality.height];
    made.setAttribute("role", "img");
    made.setAttribute("aria-label", `${kind === "own" ? "test tuple" : "generated for"} ${index + 1}`);
    Object.assign(made.style, { width: `${width}px`, height: `${height}px` });
    made.style.backgroundSize = `${data.tuples * width}px auto`;
    made.show = (row) => (made.style.backgroundPosition = `${-index * width}px ${-row * height}px`);
    return made;
  };

  const rows = data.names.map((name, i) => {
    const modality = data.modalities[i];
    const row = element("div", "modality");
    const button = element("button", "", name.replaceAll("_", "_\u200b"));
    button.type = "button";
    const long = modality.texts && Math.max(...modality.texts.flat().map((text) => text.length)) > LONG;
    const cells = element("div", long ? "cells long" : modality.texts ? "cells text" : "cells");
    if (modality.sprite) cells.style.setProperty("--sprite", `url(${modality.sprite})`);
    const generated = [];
    for (let index = 0; index < data.tuples; index++) {
      const [own, made] = [tile(modality, index, "own"), tile(modality, index, "made")];
      own.show(0);
      generated.push(made);
      within(cells, within(element("div", "cell"), own, made));
    }
    const numbers = element("dl", "numbers");
    within(play, within(row, button, cells, numbers));
    return { name, row, button, generated, numbers };
  });

  const called = (subset) => {
    const members = subset.split("+");
    const others = data.names.filter((name) => !members.includes(name));
    if (members.length <= 5) return members.join(" + ");
    return others.length ? `all but ${others.join(", ")}` : "all";
  };
  const choice = element("select", "");
  within(choice, new Option("another subset", ""), ...data.subsets.map((subset) => new Option(called(subset), subset)));
  choice.options[0].hidden = choice.options[0].disabled = true;
  const said = element("dl", "numbers");
  said.setAttribute("aria-live", "polite");
  play.prepend(within(element("div", "chosen"), within(element("label", "", "Given "), choice), said));

  const write = (list, pairs) =>
    list.replaceChildren(
      ...pairs.map(([title, value]) => within(element("div", ""), element("dt", "", title), element("dd", "", value))),
    );

  let given = new Set(data.subsets[0].split("+"));
  const label = () => data.names.filter((name) => given.has(name)).join("+");
  const show = () => {
    const row = data.subsets.indexOf(label()) + 1;
    const found = data.numbers[label()] || {};
    choice.value = row ? label() : "";
    play.dataset.given = label();
    write(said, found[""] || (row ? [] : [["", given.size ? "This subset is not here: choose another." : "Nothing is given."]]));
    for (const each of rows) {
      each.button.setAttribute("aria-pressed", given.has(each.name));
      each.row.classList.toggle("given", given.has(each.name));
      each.row.classList.toggle("unknown", !row);
      for (const made of each.generated) made.show(row);
      write(each.numbers, found[each.name] || []);
    }
  };
  const choose = (names) => {
    given = new Set(names);
    show();
    history.replaceState(null, "", `#given=${label().split("+").map(encodeURIComponent).join("+")}`);
  };
  const fromAddress = () => {
    if (!location.hash.startsWith("#given=")) return;
    given = new Set(location.hash.slice("#given=".length).split("+").map(decodeURIComponent));
    show();
  };

  rows.forEach(({ name, button }, i) => {
    button.addEventListener("click", () => choose(data.names.filter((each) => given.has(each) !== (each === name))));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      rows[(i + step + rows.length) % rows.length].button.focus();
    });
  });
  choice.addEventListener("change", () => choose(choice.value.split("+")));
  addEventListener("hashchange", fromAddress);
  show();
  fromAddress();
  document.getElementById("powerset").hidden = false;
})();
