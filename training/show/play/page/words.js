// What the page says: over the picture, in the line below it, and to screen readers.

import {find, icon, make, said} from "./panel.js";

const NOTE_FOR = 6000;  // milliseconds
const ENDED = {terminated: "The episode has ended", truncated: "Time is up"};
const STATES = {connecting: "Connecting", opening: "Opening", failed: "Not opened", ready: "Ready", ended: "Ended",
  closed: "Not connected"};
let timer = 0;

export function note(text) {
  find("note").textContent = text;
  clearTimeout(timer);
  timer = setTimeout(() => { find("note").textContent = ""; }, NOTE_FOR);
}

// Words over the picture; none for "". The kind "busy" cannot be pressed, "quiet" leaves the picture to be seen.
export function veil(say, more = "", kind = "") {
  find("veil").hidden = !say;
  find("veil").className = kind;
  find("veil").disabled = kind === "busy";
  find("veil-say").textContent = say;
  find("veil-more").textContent = more;
}

export function veilFor({mode, about, now, futures, looking, last}, reason) {
  const touch = matchMedia("(pointer: coarse)").matches;
  const goOn = touch ? "Tap here or on an action" : "Press a key or click here";
  if (mode === "closed") return [reason ? `${reason}.` : "The connection is closed.", `${touch ? "Tap" : "Click"} to try again.`];
  if (mode === "failed") return ["The world did not open", `${reason.replace(/\.$/, "")}. ${touch ? "Tap" : "Click"} to try again.`];
  if (mode === "connecting" || mode === "opening" || !about) return ["Opening the world …", "", "busy"];
  if (looking) return [`Step ${now.step} of ${last}`, `${goOn} to go ${about.dream ? "on from here" : "back to the present"}.`, "quiet"];
  if (mode === "ready") return ["Tap or press a key to begin", about.dream ? "Everything you will see is dreamt." : "This is the real game."];
  if (mode === "ended") return [ENDED[now.ended], `${now.step} steps, return ${said(now.return)}. Tap or press R for a new one.`];
  if (mode === "paused" && !futures) return ["Paused", `${goOn} to go on.`, "quiet"];
  return [""];
}

function stateOf({mode, about, futures, looking}) {
  if (!about || mode in STATES && !looking) return STATES[mode] || "";
  const [, label] = about.drivers.find(([name]) => name === about.driver), you = about.driver === "you";
  const plays = you ? "You play" : about.driver === "agent" ? `${label} plays` : `Blind policy “${label}” plays`;
  if (looking) return "Looking back";
  if (futures?.every(one => one.ended)) return "All four futures have ended";
  if (futures) return mode === "playing" ? "Four futures" : "Four futures, paused";
  return mode === "playing" ? plays : you ? "Paused" : `Paused. ${plays} on.`;
}

export const filmKind = about => about.clips.find(kind => kind !== "gif");

// The line below the picture, and what the buttons are called now.
export function sayState(state) {
  const {mode, about, now, futures} = state, text = stateOf(state);
  if (find("state").textContent !== text) find("state").textContent = text;
  document.body.dataset.mode = mode;
  if (!about) return;
  for (const button of find("transport").children) {
    const {key} = button.control, plays = mode === "playing";
    if (key === "KeyP" && button.textContent !== (plays ? "Pause" : "Play")) {
      button.replaceChildren(icon(plays ? "pause" : "play"), make("span", {textContent: plays ? "Pause" : "Play"}));
    }
    if (key === "KeyT") button.lastChild.textContent = about.came_from ? "To the game" : "Dream on";
    if (key === "KeyC" && filmKind(about)) button.lastChild.textContent = filmKind(about).toUpperCase();
    if (key === "KeyF") button.setAttribute("aria-pressed", Boolean(futures));
  }
  const kind = about.dream ? "Dream" : "Real game";
  if (now) find("picture").setAttribute("aria-label", `${kind} ${about.world}, ${text.toLowerCase()}, step ${now.step}`);
}
