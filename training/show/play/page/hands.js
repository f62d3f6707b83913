// Keys, pointers, touch and gamepads: which of the game's keys are held.

const PAD = [  // a gamepad's parts, and the keys that they may stand for: the first one that the game has
  [pad => pad.buttons[14]?.pressed || pad.axes[0] < -0.5, ["ArrowLeft", "KeyA", "KeyQ"]],
  [pad => pad.buttons[15]?.pressed || pad.axes[0] > 0.5, ["ArrowRight", "KeyD", "KeyE"]],
  [pad => pad.buttons[12]?.pressed || pad.axes[1] < -0.5, ["ArrowUp", "KeyW"]],
  [pad => pad.buttons[13]?.pressed || pad.axes[1] > 0.5, ["ArrowDown", "KeyS"]],
  [pad => pad.buttons[0]?.pressed, ["Space", "Digit1"]],
  [pad => pad.buttons[4]?.pressed, ["KeyQ"]],
  [pad => pad.buttons[5]?.pressed, ["KeyE"]],
  [pad => pad.buttons[1]?.pressed, ["Backspace"]],
  [pad => pad.buttons[2]?.pressed, ["KeyF"]],
  [pad => pad.buttons[3]?.pressed, ["KeyR"]],
  [pad => pad.buttons[9]?.pressed, ["KeyP"]],
];

export class Hands {
  // events: pressed(key) for a game's key, control(key) for one of `controls`, other() for any other key.
  constructor(events, controls) {
    [this.events, this.controls] = [events, controls];
    this.keys = new Set();  // that the game has
    this.held = [];  // in the order in which they were pressed
    this.tapped = new Set();  // pressed since the last step, though perhaps not held any more
    this.padHeld = new Set();
    document.addEventListener("keydown", event => this.down(event));
    document.addEventListener("keyup", event => this.release(event.code));
    addEventListener("gamepadconnected", () => this.poll());
  }

  // The keys of the next step: those held, and those that were only tapped.
  take() {
    const keys = [...this.held, ...[...this.tapped].filter(key => !this.held.includes(key))];
    this.tapped.clear();
    return keys;
  }

  press(key) {
    if (!this.held.includes(key)) this.held.push(key);
    this.tap(key);
  }

  tap(key) {
    this.tapped.add(key);
    this.events.pressed(key);
  }

  release(key) {
    this.held = this.held.filter(other => other !== key);
    this.events.released();
  }

  let_go() { [this.held, this.tapped] = [[], new Set()]; }

  down(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const on = event.target, code = event.code;
    // What an element of the page does with a key itself is left to it.
    if (on.matches("button, summary, input[type=checkbox]") && (code === "Space" || code === "Enter")) return;
    if (on.matches("select, input") && /^(Arrow|Home|End|Page|Space)/.test(code)) return;
    if (["Tab", "ShiftLeft", "ShiftRight", "ControlLeft", "AltLeft", "MetaLeft"].includes(code)) return;
    if (on.matches("select") && code !== "Escape") return;
    if (event.shiftKey && this.controls(`Shift+${code}`)) {
      event.preventDefault();
      return this.events.control(`Shift+${code}`);
    }
    const isKey = this.keys.has(code), isControl = !isKey && this.controls(code);
    if (isKey || isControl) event.preventDefault();
    if (event.repeat) return;
    if (isKey) this.press(code);
    else if (isControl) this.events.control(code);
    else this.events.other();
  }

  // A button that is held as a key is; Enter, Space and click() tap it.
  hold(button, key) {
    const up = () => this.release(key);
    button.addEventListener("pointerdown", event => {
      if (event.button) return;
      event.preventDefault();  // a pointer leaves the focus where it is
      button.setPointerCapture(event.pointerId);
      this.press(key);
    });
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) button.addEventListener(name, up);
    button.addEventListener("contextmenu", event => event.preventDefault());
    button.addEventListener("click", event => { if (!event.detail) this.tap(key); });
  }

  poll() {
    const pads = [...navigator.getGamepads()].filter(Boolean);
    for (const [pressed, keys] of PAD) {
      const key = keys.find(one => this.keys.has(one)) || keys.find(one => this.controls(one));
      const now = key && pads.some(pressed), before = this.padHeld.has(keys[0]);
      if (now && !before) {
        this.padHeld.add(keys[0]);
        if (this.keys.has(key)) this.press(key);
        else this.events.control(key);
      } else if (!now && before) {
        this.padHeld.delete(keys[0]);
        this.release(key);
      }
    }
    if (pads.length) requestAnimationFrame(() => this.poll());
  }
}
