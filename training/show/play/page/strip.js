// Surprise over time: a bar for each step, on the scale of what is usual for the world; rewards and ends as marks.

const LEAST = 96;  // steps that the strip has room for
const HIGHEST = 2.5;  // times the usual surprise
const THUMB = 14;  // pixels of the slider's thumb, between whose extreme places the steps lie

export class Strip {
  constructor(canvas, slider) {
    [this.canvas, this.slider] = [canvas, slider];
    this.points = [];  // [step, reward, nll or null, ending]
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  begin(points, usual) {
    [this.points, this.usual] = [points, usual];
    this.draw();
  }

  // A new step; those that are no longer kept, before `first`, are dropped.
  add(point, first) {
    if (this.points.length && point[0] <= this.points.at(-1)[0]) return;
    this.points.push(point);
    while (this.points[0][0] < first) this.points.shift();
    this.draw();
  }

  get first() { return this.points.length ? this.points[0][0] : 0; }
  get last() { return this.points.length ? this.points.at(-1)[0] : 0; }

  draw() {
    const {canvas, slider} = this, scale = devicePixelRatio || 1;
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    [canvas.width, canvas.height] = [Math.round(width * scale), Math.round(height * scale)];
    const end = Math.max(this.last, this.first + LEAST);
    [slider.min, slider.max] = [this.first, end];
    const pen = canvas.getContext("2d"), style = getComputedStyle(canvas);
    const color = name => style.getPropertyValue(name);
    pen.scale(scale, scale);
    const x = step => THUMB / 2 + (width - THUMB) * (step - this.first) / (end - this.first);
    const bar = Math.max(1, (width - THUMB) / (end - this.first) - 1), top = 14, foot = height - 1, room = foot - top;
    if (this.usual) {
      pen.fillStyle = color("--line");
      pen.fillRect(0, foot - room / HIGHEST, width, 1);
    }
    pen.fillRect(0, foot, width, 1);
    const stands = this.standsOut();
    for (const [step, reward, nll, ending] of this.points) {
      if (nll !== null && this.usual) {
        const ratio = Math.min(HIGHEST, nll / this.usual);
        pen.fillStyle = color(ratio > 1.5 ? "--hot" : "--accent");
        pen.fillRect(x(step) - bar / 2, foot - room * ratio / HIGHEST, bar, room * ratio / HIGHEST);
      }
      if (stands(reward)) this.mark(pen, x(step), reward, color);
      if (ending) {
        pen.fillStyle = color("--ink");
        pen.fillRect(x(step) + bar / 2, 0, 2, height);
      }
    }
  }

  // Whether a reward differs from what most steps earn: living costs and the noise of a reward head do not count.
  standsOut() {
    const rewards = this.points.slice(1).map(point => Number(point[1])).filter(Number.isFinite).sort((a, b) => a - b);
    const middle = rewards[rewards.length >> 1] || 0;
    const widest = Math.max(0, ...rewards.map(reward => Math.abs(reward - middle)));
    const least = Math.max(0.05, 0.25 * widest, 0.5 * Math.abs(middle));
    return reward => !Number.isFinite(reward) || Math.abs(reward - middle) > least && Math.abs(reward) > 0.05;
  }

  mark(pen, x, reward, color) {  // a triangle up for a reward above zero, one down for one below
    const up = reward > 0;
    pen.fillStyle = color(up ? "--good" : "--bad");
    pen.beginPath();
    pen.moveTo(x - 4, up ? 10 : 3);
    pen.lineTo(x + 4, up ? 10 : 3);
    pen.lineTo(x, up ? 3 : 10);
    pen.fill();
  }

  // In words, for those who do not see it.
  get label() {
    const nll = this.points.filter(point => point[2] !== null).map(point => point[2]);
    const stands = this.standsOut(), rewards = this.points.filter(point => stands(point[1])).length;
    const mean = nll.length && this.usual ? nll.reduce((sum, n) => sum + n, 0) / nll.length / this.usual : null;
    const surprise = mean === null ? "" : `, on average ${mean.toFixed(2)} times as surprising as usual`;
    return `Steps ${this.first} to ${this.last}${surprise}; ${rewards} with a reward that stands out`;
  }
}
