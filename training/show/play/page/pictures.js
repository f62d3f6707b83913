// Frames, and codes as colours, on canvases.

const playing = new WeakMap();  // the timers of the frames that are still to be drawn on a canvas

// Draw the frames (F, H, W, 3) of a step one after the other within `time` milliseconds.
export function draw(canvas, data, [count, height, width], time = 0) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext("2d"), timers = [];
  for (const timer of playing.get(canvas) || []) clearTimeout(timer);
  for (let frame = 0; frame < count; frame++) {
    const image = pen.createImageData(width, height);
    let from = frame * height * width * 3;
    for (let to = 0; to < image.data.length; to += 4) {
      image.data[to] = data[from++];
      image.data[to + 1] = data[from++];
      image.data[to + 2] = data[from++];
      image.data[to + 3] = 255;
    }
    if (time && frame) timers.push(setTimeout(() => pen.putImageData(image, 0, 0), frame * time / count));
    else if (time || frame === count - 1) pen.putImageData(image, 0, 0);
  }
  playing.set(canvas, timers);
}

export function readPalette(digits) {
  return Uint8Array.from(digits.match(/../g) || [], pair => parseInt(pair, 16));
}

// Draw codes, flat in the order (h, w, M), as one map for each slice; those that are as `before` are faded.
export function drawCodes(canvas, codes, [h, w, m], before, {palette, slices, num_codes}) {
  const patch = Math.round(Math.sqrt(m / slices)), rows = h * patch, columns = w * patch;
  const cell = Math.max(6, Math.floor(128 / columns)), gap = Math.round(cell / 3);
  const space = cell / 12;  // between cells
  canvas.width = slices * columns * cell + (slices - 1) * gap;
  canvas.height = rows * cell;
  const pen = canvas.getContext("2d");
  for (let place = 0; place < codes.length; place++) {
    const token = Math.floor(place / m), inside = place % m, slice = inside % slices;
    const at = Math.floor(inside / slices);  // the place within the token's patch
    const row = Math.floor(token / w) * patch + Math.floor(at / patch), column = token % w * patch + at % patch;
    const color = 3 * (slice * num_codes + codes[place]);
    const x = slice * (columns * cell + gap) + column * cell, y = row * cell;
    const same = before && before.length === codes.length && before[place] === codes[place];
    pen.globalAlpha = same ? 0.3 : 1;
    pen.fillStyle = `rgb(${palette[color]} ${palette[color + 1]} ${palette[color + 2]})`;
    pen.fillRect(x, y, cell - space, cell - space);
  }
}
