// What the player sees and presses: futures side by side, the inside of a step, the buttons of the actions.

import {find, keyName, make, named, said, surprise} from "./panel.js";
import {draw, drawCodes} from "./pictures.js";

// The codes of a step beside those `before` it, and the real picture through the tokenizer.
export function showInside({codes, grid, arrays: {seen}}, before, about, time) {
  find("codes-box").hidden = !codes;
  if (codes) drawCodes(find("codes"), codes, grid, before, about);
  find("seen-box").hidden = !seen;
  if (seen) draw(find("seen"), seen.data, seen.shape, time);
}

// The frames of all futures lie one after the other in `data`.
export function showFutures(futures, {shape, data}, time, about, choose) {
  const box = find("futures"), count = shape[0] / futures.length, size = data.length / futures.length;
  if (box.children.length !== futures.length) {
    box.replaceChildren(...futures.map((_, which) => {
      const made = make("button", {type: "button", onclick: () => choose(which)}, make("canvas"), make("span"));
      made.onpointerdown = event => event.preventDefault();
      made.firstChild.setAttribute("aria-hidden", "true");
      return made;
    }));
  }
  futures.forEach((one, which) => {
    const button = box.children[which], ended = one.ended ? "ended · " : "";
    draw(button.firstChild, data.subarray(which * size, (which + 1) * size), [count, shape[1], shape[2]], time);
    const words = `${which + 1} · ${ended}return ${said(one.return, 1)} · surprise ${surprise(one.nll, about.usual)}`;
    button.lastChild.textContent = words;
    button.setAttribute("aria-label", `Future ${words}. Go on with it`);
  });
}

// A button for each action that has keys of its own; whether they are new.
export function showActions(all, hands) {
  const bindings = all.filter(([keys]) => keys.length);
  const box = find("actions"), layout = JSON.stringify(bindings);
  if (box.dataset.layout === layout) return false;
  box.dataset.layout = layout;
  document.body.style.setProperty("--columns", Math.min(4, bindings.length));
  document.body.style.setProperty("--rows", Math.ceil(bindings.length / 4));
  hands.keys = new Set(bindings.flatMap(([keys]) => keys));
  box.replaceChildren(...bindings.map(([keys, label]) => {
    const hint = keys.filter(key => !key.startsWith("Action")).map(keyName).join(" ");
    const made = make("button", {type: "button", keys}, make("span", {textContent: named(label)}),
      make("kbd", {textContent: hint}));
    made.lastChild.setAttribute("aria-hidden", "true");
    hands.hold(made, keys[0]);
    return made;
  }));
  return true;
}

export function showHeld(keys) {
  for (const button of find("actions").children) {
    button.classList.toggle("held", button.keys.some(key => keys.includes(key)));
  }
}
