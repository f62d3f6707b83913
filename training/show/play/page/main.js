// The page: asks for steps at the game's pace, shows what comes, and does what the player wants.

import {Hands} from "./hands.js";
import {Line} from "./line.js";
import {find, icon, keyName, make, showDrivers, showKeys, showNumbers, showWorlds, startTheme} from "./panel.js";
import {draw, readPalette} from "./pictures.js";
import {Strip} from "./strip.js";
import {showActions, showFutures, showHeld, showInside} from "./views.js";
import {filmKind, note, sayState, veil, veilFor} from "./words.js";

let mode = "connecting";  // opening, failed, ready, playing, paused, ended, closed
let about = null, now = null, futures = null, before = null, looking = false;
let asked = 0, timer = 0, wanted = null;

const strip = new Strip(find("strip"), find("scrub"));
const line = new Line({
  notice: words => { if (words.waiting) veil(words.waiting, "", "busy"); },
  opened: () => open(),
  closed: reason => { mode = "closed"; tell(reason); },
});

// What the player can do besides acting; `when` says whether there is use for it now.
const controls = [
  {key: "KeyP", icon: "pause", label: "Play", help: "pause and play", does: () => mode === "playing" ? pause() : play(),
    when: () => true},
  {key: "Backspace", icon: "back", label: "Back", help: "one second back", does: () => change({do: "back"}),
    when: () => about.dream},
  {key: "Period", icon: "step", label: "Step", help: "a single step", does: single, when: () => true},
  {key: "KeyF", icon: "fork", label: "Fork", help: "four futures from here, and out of them again",
    does: () => futures ? choose(-1) : fork(), when: () => about.dream},
  {key: "KeyT", icon: "dream", label: "Dream on", help: "from the real game into its dream, and back", does: dreamOn,
    when: () => about.came_from || about.dreams_on},
  {key: "KeyR", icon: "begin", label: "New", help: "a new episode", does: begin, when: () => true},
  {key: "KeyC", icon: "clip", label: "MP4", help: "save what is behind as a film", does: () => clip(filmKind(about)),
    when: () => filmKind(about)},
  {key: "KeyX", icon: "clip", label: "GIF", help: "save what is behind as gif", does: () => clip("gif"),
    when: () => about.clips.includes("gif")},
  {key: "Comma", help: "look one step back", does: () => look((wanted ?? shownStep()) - 1), when: () => true},
  {key: "KeyN", help: "the next world", does: () => go(1), when: () => about.worlds.length > 1},
  {key: "KeyG", help: "the next player at the wheel", does: nextDriver, when: () => true},
  {key: "KeyO", help: "one step for each press, on and off", does: () => find("single").click(), when: () => true},
  {key: "Slash", help: "these keys", does: () => find("help").click(), when: () => true},
  {key: "Escape", help: "pause; leave the futures", does: () => futures ? choose(-1) : pause(), when: () => true},
  ...[1, 2, 3, 4].map(which => ({key: `Shift+Digit${which}`, help: `go on with future ${which}`,
    does: () => choose(which - 1), when: () => futures})),
];
const control = key => about && controls.find(one => one.key === key && one.when());
const hands = new Hands({
  pressed: () => { if (about) act(); },
  released: () => showHeld(hands.held),
  control: key => control(key).does(),
  other: () => { if (mode === "ready" || mode === "paused") play(); },
}, key => Boolean(control(key)));

// --- asking -----------------------------------------------------------------------------------------------------

// Ask, and show what comes; null if it failed, after a note.
async function ask(message) {
  const answer = await line.ask(message);
  if (answer.error) {
    if (mode !== "closed") {
      if (line.lost) mode = "closed";  // it was before; the player pressed something else than the veil
      else if (about) {
        note(answer.error);
        mode = "paused";
        showWorlds(about);  // perhaps another one was chosen
      } else mode = "failed";
      tell(mode === "failed" ? answer.error : "");
    }
    return null;
  }
  show(answer);
  return answer;
}

function schedule() {  // one step each 1/fps seconds, and never a second one before the first has come
  clearTimeout(timer);
  if (mode !== "playing" || line.busy || find("single").checked) return;
  timer = setTimeout(step, Math.max(0, asked + 1000 / about.fps - performance.now()));
}

async function step() {
  clearTimeout(timer);
  if (line.busy) return;
  asked = performance.now();
  const keys = hands.take();
  showHeld([...keys, ...hands.held]);
  await ask({do: "step", keys});
  schedule();
}

// --- what the player does ---------------------------------------------------------------------------------------

async function present() {  // from an earlier step that is looked at: a dream goes on from there, a game from its end
  if (looking) await ask(about.dream ? {do: "back", to: shownStep()} : {do: "show"});
}

async function play() {
  if (mode === "closed") return connect();
  if (mode === "failed") return open();
  if (mode === "ended" && !looking) return begin();
  if (mode === "connecting" || mode === "opening") return;
  await present();
  if (now.ended) return tell();
  find("single").checked = false;
  mode = "playing";
  tell();
  schedule();
}

function pause() {
  if (mode !== "playing") return;
  mode = "paused";
  tell();
}

async function act() {  // a key of the game
  showHeld(hands.held);
  if (mode === "ready" || mode === "paused") {
    if (find("single").checked) return single();
    await play();
  } else if (mode === "playing" && find("single").checked) single();
}

async function single() {
  if (mode === "ended" && !looking || mode === "closed") return;
  if (!find("single").checked) pause();
  await present();
  mode = "paused";
  await step();
}

async function change(message, then = "paused") {  // something that leads elsewhere in time, or to another world
  clearTimeout(timer);
  if (then !== "playing") hands.let_go();
  mode = then;
  const answer = await ask(message);
  if (answer) tell();
  schedule();
  return answer;
}

const runs = () => mode === "playing" || mode === "ended";
function begin() { return change({do: "begin"}, about.driver !== "you" || runs() ? "playing" : "ready"); }

async function fork() {
  await present();
  return change({do: "fork"}, mode);
}

function choose(which) { return change({do: "choose", which}); }

function dreamOn() {
  if (about.came_from) return change({do: "game"});
  return change(looking ? {do: "dream", at: shownStep()} : {do: "dream"});
}

function go(steps) {
  const {worlds, world} = about;
  enter(worlds[(worlds.indexOf(world) + steps) % worlds.length]);
}

async function enter(world) {
  const running = mode === "playing";
  await change({do: "go", world}, "ready");
  if (running && about.driver !== "you") await play();
}

async function drive(who) {
  await ask({do: "drive", who});
  if (who !== "you" && mode !== "ended") await play();
  else tell();
  schedule();
}

function nextDriver() {
  const names = about.drivers.map(([who]) => who);
  return drive(names[(names.indexOf(about.driver) + 1) % names.length]);
}

async function look(at) {  // the latest wish counts
  if (futures) return;
  pause();
  const first = wanted === null;
  wanted = Math.min(Math.max(at, strip.first), strip.last);
  if (!first) return;
  while (wanted !== null) {
    const this_one = wanted;
    await ask({do: "look", at: this_one});
    if (wanted === this_one) wanted = null;
  }
  find("scrub").value = now.step;
  tell();
}

async function clip(kind) {
  const goesOn = mode === "playing";
  pause();
  const answer = await ask({do: "clip", kind});
  if (!answer) return;
  const {data} = answer.arrays.file, type = `${kind === "gif" ? "image" : "video"}/${kind}`;
  const link = make("a", {href: URL.createObjectURL(new Blob([data], {type})), download: answer.file});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  note(`Saved ${answer.file}.`);
  if (goesOn) return play();
  tell();
  schedule();  // if a key was pressed meanwhile
}

// --- showing ----------------------------------------------------------------------------------------------------

const shownStep = () => now ? now.step : 0;

function show(answer) {
  if (answer.about) settle(answer);
  if (answer.note) note(answer.note);
  if (answer.file) return;
  const frames = answer.arrays.frames, time = mode === "playing" ? 1000 / about.fps : 0;
  futures = answer.futures || null;
  looking = Boolean(answer.looking);
  now = futures ? futures[0] : answer.now;
  find("futures").hidden = !futures;
  find("picture").hidden = Boolean(futures);
  find("inside").classList.toggle("faded", Boolean(futures));
  if (futures) showFutures(futures, frames, time, about, choose);
  else {
    const [count, height, width] = frames.shape;
    find("screen").style.setProperty("--ratio", width / height);
    find("screen").style.setProperty("--pixels", `${width}px`);
    draw(find("picture"), frames.data, [count, height, width], time);
    if (!looking && !answer.history) strip.add([now.step, now.reward, now.nll, now.ended], answer.first);
    showInside(answer, before, about, time);
    if (answer.codes && !looking) before = answer.codes;
  }
  if (wanted === null) find("scrub").value = now.step;  // else the player moves it
  find("scrub").disabled = Boolean(futures);
  find("scrub").setAttribute("aria-valuetext", `step ${now.step} of ${strip.last}`);
  showNumbers(now, about);
  const over = futures ? futures.every(one => one.ended) : now.ended;
  if (over && !looking && mode !== "ended") mode = futures ? "paused" : "ended";
  else if (!over && mode === "ended" && !looking) mode = "paused";
  tell();
}

function settle(answer) {  // another world, another episode, another player
  const first = !about;
  about = {...answer.about, palette: readPalette(answer.about.palette)};
  before = null;
  document.body.dataset.kind = about.dream ? "dream" : "game";
  document.title = `${about.world} · VideoGenDream`;
  find("kind").textContent = about.dream ? "Dream" : "Real game";
  strip.begin(answer.history, about.usual);
  showWorlds(about);
  showDrivers(about, drive);
  if (showActions(about.bindings, hands)) showKeys(about.bindings, controls.filter(one => one.help));
  find("warmth").hidden = about.temperature === null;
  if (about.temperature !== null) {
    find("temperature").value = about.temperature;
    find("degrees").value = about.temperature.toFixed(2);
  }
  if (first || mode === "opening") mode = "ready";
  for (const button of find("transport").children) button.hidden = !button.control.when();
}

function tell(reason = "") {
  const state = {mode, about, now, futures, looking, last: strip.last};
  veil(...veilFor(state, reason));
  sayState(state);
  find("strip").setAttribute("aria-label", strip.label);
}

// --- the beginning ----------------------------------------------------------------------------------------------

function connect() {
  mode = "opening";
  veil("Connecting …", "", "busy");
  line.connect();
}

function open() {
  mode = "opening";
  veil("Opening the world …", "", "busy");
  return ask({do: "show"});
}

find("transport").replaceChildren(...controls.filter(one => one.label).map(one => {
  const made = make("button", {type: "button", control: one, title: `${one.help} (${keyName(one.key)})`},
    icon(one.icon), make("span", {textContent: one.label}));
  if (one.icon === "clip") made.className = "texty";
  made.onpointerdown = event => event.preventDefault();
  made.onclick = () => { if (about) one.does(); };
  return made;
}));
find("veil").onpointerdown = event => event.preventDefault();
find("veil").onclick = () => play();
find("scrub").oninput = event => look(Number(event.target.value));
find("world").onchange = event => { event.target.blur(); enter(event.target.value); };
find("temperature").oninput = event => { find("degrees").value = Number(event.target.value).toFixed(2); };
find("temperature").onchange = async event => {
  await ask({do: "temperature", value: Number(event.target.value)});
  schedule();
};
find("single").onchange = event => {
  event.target.blur();
  if (event.target.checked) pause();
};
find("help").onclick = () => find("keys").showModal();
addEventListener("blur", () => { hands.let_go(); showHeld([]); if (about?.driver === "you") pause(); });
document.addEventListener("visibilitychange", () => { if (document.hidden) pause(); });
startTheme(() => { if (about) strip.draw(); });
connect();
