// Clips of a dream's steps, framed in orange as every dream: a GIF, and a film recorded by the browser.
//
// Letters: F frames of a step, H W pixels. Frames are the bytes of (F, H, W, 3).

const SCALE = 4;  // screen pixels per pixel, and of the frame around the picture
const FRAME = [230, 159, 0];
const GIF_FPS = 50;  // browsers show an image for 0.1 s if its duration is below 0.02 s

// The first kind of film, [ending, type], that this browser records: mp4 is played everywhere.
export const FILM = [["mp4", "video/mp4;codecs=avc1.42E01F"], ["webm", "video/webm;codecs=vp9"], ["webm", "video/webm"],
  ["mp4", "video/mp4"]].find(([, type]) => globalThis.MediaRecorder?.isTypeSupported(type));

// One frame as (H, W, 4), for canvases and encoders.
function opaque(frames, frame, height, width) {
  const pixels = new Uint8ClampedArray(height * width * 4).fill(255);
  for (let from = frame * height * width * 3, to = 0; to < pixels.length; to += 4) {
    for (let channel = 0; channel < 3; channel++) pixels[to + channel] = frames[from++];
  }
  return pixels;
}

// The bytes of a GIF of frames that are shown `fps` times a second.
export async function gif(frames, [count, height, width], fps) {
  const {GIFEncoder, applyPalette, quantize} = await import(new URL("runtime/gifenc.esm.js", import.meta.url).href);
  const encoder = GIFEncoder(), columns = width * SCALE + 2 * SCALE, rows = height * SCALE + 2 * SCALE;
  const due = frame => 10 * Math.round(100 * frame / fps);  // a GIF counts in hundredths of a second
  const every = Math.ceil(fps / GIF_FPS);
  for (let from = 0; from < count; from += every) {
    const to = Math.min(from + every, count), pixels = opaque(frames, to - 1, height, width), palette = quantize(pixels, 255);
    const small = applyPalette(pixels, palette), large = new Uint8Array(rows * columns).fill(palette.length);
    for (let row = 0; row < height * SCALE; row++) {
      const place = (row + SCALE) * columns + SCALE, line = Math.floor(row / SCALE) * width;
      for (let x = 0; x < width * SCALE; x++) large[place + x] = small[line + Math.floor(x / SCALE)];
    }
    encoder.writeFrame(large, columns, rows, {palette: [...palette, FRAME], delay: Math.max(20, due(to) - due(from))});
  }
  encoder.finish();
  return encoder.bytes();
}

// The bytes of a film. Browsers record as the clock runs: it takes as long as it lasts; `notice` hears what is left.
export async function film(frames, [count, height, width], fps, type, notice) {
  const small = new OffscreenCanvas(width, height), canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [(width + 2) * SCALE, (height + 2) * SCALE];
  const pen = canvas.getContext("2d");
  const show = frame => {
    small.getContext("2d").putImageData(new ImageData(opaque(frames, frame, height, width), width, height), 0, 0);
    pen.fillStyle = `rgb(${FRAME.join(" ")})`;
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, SCALE, SCALE, width * SCALE, height * SCALE);
  };
  show(0);
  const stream = canvas.captureStream(), parts = [];
  const recorder = new MediaRecorder(stream, {mimeType: type, videoBitsPerSecond: 4e6});
  recorder.ondataavailable = ({data}) => parts.push(data);
  const stopped = new Promise((resolve, reject) => {
    recorder.onstop = resolve;
    recorder.onerror = ({error}) => reject(error || new Error("the browser could not record the film"));
  });
  const begun = performance.now() + 100;  // until it records
  recorder.start();
  for (let frame = 0; frame <= count; frame++) {
    const left = begun + 1000 * frame / fps - performance.now();
    await new Promise(resolve => setTimeout(resolve, Math.max(0, left)));
    show(Math.min(frame, count - 1));  // the last one twice, since a film ends with the last picture that is drawn
    notice(`Filming, ${Math.ceil((count - frame) / fps)} s left …`);
  }
  recorder.stop();
  await stopped;
  for (const track of stream.getTracks()) track.stop();
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
