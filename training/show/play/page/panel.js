// What stands around the picture: numbers, signals, who plays, worlds, keys, light and dark.

const SHOWN = 3;  // signals beside the numbers; the others are folded
export const find = id => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("aria-hidden", "true");
  svg.append(document.createElementNS("http://www.w3.org/2000/svg", "use"));
  svg.firstChild.setAttribute("href", `#i-${name}`);
  return svg;
}

export function said(value, digits = 2) {
  if (typeof value !== "number") return value ?? "–";
  const least = Number.isInteger(value) ? 0 : digits;
  const text = value.toLocaleString("en", {minimumFractionDigits: least, maximumFractionDigits: digits});
  return text.replace("-", "−");
}

export const surprise = (nll, usual) => nll === null || !usual ? "–" : `${(nll / usual).toFixed(1)} ×`;

const KEY_NAMES = {ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓", Period: ".", Comma: ",",
  Escape: "Esc", Slash: "?"};
export const keyName = code => KEY_NAMES[code] || code.replace(/^(Key|Digit)/, "").replace(/\+(Key|Digit)/, "+");
export const named = text => text.replaceAll("_", " ");

// What this browser remembers; nothing where it forbids pages to remember.
export function recall(name, place = "localStorage") {
  try { return window[place].getItem(name); } catch { return null; }
}

export function remember(name, text, place = "localStorage") {
  try { window[place].setItem(name, text); } catch { /* so be it */ }
}

// --- numbers and signals ----------------------------------------------------------------------------------------

let chosen = [], world = "", names = "";

function remembered(signals) {
  try {
    const read = JSON.parse(recall(`videogen.signals.${world}`) || "[]").filter(name => name in signals);
    if (read.length) return read;
  } catch { /* as if nothing were remembered */ }
  return Object.keys(signals).slice(0, SHOWN);
}

export function showNumbers(now, about) {
  const {signals} = now, keys = Object.keys(signals).join();
  if (world !== about.world || names !== keys) {
    [world, names] = [about.world, keys];
    chosen = remembered(signals);
    foldSignals(now, about);
  }
  const rows = [["Step", said(now.step)], ["Return", said(now.return)], ["Reward", said(now.reward)]];
  if (now.native !== null) rows.push(["Native return", said(now.native)]);
  if (about.usual) rows.push(["Surprise", surprise(now.nll, about.usual)]);
  for (const name of chosen) rows.push([named(name).toLowerCase(), said(signals[name])]);
  const list = find("numbers");
  if (list.children.length !== rows.length) list.replaceChildren(...rows.map(() => make("div", {}, make("dt"), make("dd"))));
  rows.forEach(([name, value], place) => {
    const [dt, dd] = list.children[place].children;
    dt.textContent = name;
    dt.title = name === "Surprise" ? "times what is usual for this world" : name;
    dd.textContent = value;
  });
  if (!find("signals").hidden && find("signals").open) {
    for (const out of find("signals").querySelectorAll("output")) out.value = said(signals[out.name]);
  }
}

function foldSignals(now, about) {
  const all = Object.keys(now.signals), box = find("signals");
  box.hidden = all.length <= SHOWN;
  if (box.hidden) return;
  box.querySelector("summary").textContent = `All ${all.length} signals`;
  box.ontoggle = () => showNumbers(now, about);
  box.querySelector("div").replaceChildren(...all.map(name => {
    const tick = make("input", {type: "checkbox", checked: chosen.includes(name), value: name});
    tick.onchange = () => {
      chosen = tick.checked ? [...chosen, name].slice(-SHOWN) : chosen.filter(other => other !== name);
      for (const other of box.querySelectorAll("input")) other.checked = chosen.includes(other.value);
      remember(`videogen.signals.${world}`, JSON.stringify(chosen));
    };
    return make("label", {}, tick, make("span", {textContent: named(name).toLowerCase()}),
      make("output", {name, value: said(now.signals[name])}));
  }));
}

// --- who plays, and where ---------------------------------------------------------------------------------------

export function showDrivers({drivers, driver}, give) {
  const box = find("wheel").querySelector("div");
  if (box.dataset.drivers !== JSON.stringify(drivers)) {
    box.dataset.drivers = JSON.stringify(drivers);
    box.replaceChildren(...drivers.map(([who, label]) => {
      const radio = make("input", {type: "radio", name: "driver", value: who});
      radio.onchange = () => give(who);
      const made = make("label", {title: label}, radio, make("span", {textContent: label}));
      made.onpointerup = () => setTimeout(() => radio.blur());  // so that the arrows steer the game
      return made;
    }));
  }
  for (const radio of box.querySelectorAll("input")) radio.checked = radio.value === driver;
}

const short = name => name.replace(/^VideoGenDream[-/](.*)/, "$1, dream").replace(/^VideoGenReal[-/](.*)/, "$1, real game");

export function showWorlds({world, worlds}) {
  const select = find("world"), listed = JSON.stringify(worlds);
  if (select.dataset.worlds !== listed) {
    select.dataset.worlds = listed;
    select.replaceChildren(...worlds.map(name => make("option", {value: name, textContent: short(name)})));
  }
  select.value = world;
  select.disabled = worlds.length < 2;
}

export function showKeys(bindings, controls) {
  const row = (keys, text) => make("tr", {}, make("th", {scope: "row"}, ...keys.flatMap(key =>
    [make("kbd", {textContent: keyName(key)}), " "])), make("td", {textContent: text}));
  const rows = bindings.map(([keys, label]) => [keys.filter(key => !key.startsWith("Action")), named(label)]);
  find("keys-list").replaceChildren(make("table", {}, make("tbody", {},
    ...rows.filter(([keys]) => keys.length).map(([keys, label]) => row(keys, label)),
    ...controls.map(one => row([one.key], one.help)))));
}

// --- light and dark ---------------------------------------------------------------------------------------------

const THEMES = {auto: "Auto", light: "Light", dark: "Dark"};

export function startTheme(changed) {
  const button = find("theme"), order = Object.keys(THEMES);
  const set = theme => {
    document.documentElement.dataset.theme = theme;
    button.replaceChildren(icon("theme"), make("span", {textContent: THEMES[theme]}));
    button.setAttribute("aria-label", `Colours: ${THEMES[theme].toLowerCase()}. Change`);
    changed();
  };
  button.onclick = () => {
    const next = order[(order.indexOf(document.documentElement.dataset.theme) + 1) % order.length];
    remember("videogen.theme", next);
    set(next);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
  const kept = recall("videogen.theme");
  set(kept in THEMES ? kept : "auto");
}
