// What both kinds of pages share: numbers in words, and a video's scores over time as a small drawing.
"use strict";

const SVG = "http://www.w3.org/2000/svg";

function element(name, attributes, text) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function shape(name, attributes) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

let timed = true, judged = true; // the pages set them: without times a time is a number of frames

function clock(seconds) {
  if (!timed) return `frame ${Math.round(seconds)}`;
  const whole = Math.floor(seconds + 1e-9);
  const parts = [Math.floor(whole / 60) % 60, whole % 60].map((part) => String(part).padStart(2, "0"));
  const hours = Math.floor(whole / 3600);
  return hours ? `${hours}:${parts.join(":")}` : `${Number(parts[0])}:${parts[1]}`;
}

// Lowest and highest score of every part of the duration, as bytes that alternate.
function decode(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function lasting(seconds) {
  return timed ? clock(seconds) : `${Math.round(seconds)} frames`;
}

// spans: [start, end, ...] in seconds.
function ranges(spans) {
  return spans.slice(0, 5).map((span) => `${clock(span[0])} to ${clock(span[1])}`).join(", ") + (spans.length > 5 ? ", and more" : "");
}

function drawStrip(place, what, bounds, duration, truth, events, levels) {
  const width = 1000, height = 100, across = (seconds) => Math.min(width, (seconds / duration) * width);
  const bar = (span, kind, top, size) => {
    const left = across(span[0]);
    return shape("rect", { class: kind, x: left, y: top, width: Math.max(4, across(span[1]) - left), height: size });
  };
  const said = `${what}, ${lasting(duration)} long. ` + (truth.length ? `Annotated: ${ranges(truth)}. ` : judged ? "Nothing annotated. " : "")
    + (events.length ? `Events found: ${ranges(events)}.` : "No event found.");
  const svg = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": said });
  svg.append(shape("rect", { class: "ground", x: 0, y: 0, width, height }));
  for (const span of truth) svg.append(bar(span, "truth-band", 0, height));
  const count = bounds.length / 2, up = (value) => (94 - (value / 255) * 82).toFixed(1);
  for (const level of levels || []) svg.append(shape("line", { class: "mark", x1: 0, x2: width, y1: up(255 * level), y2: up(255 * level) }));
  for (const [kind, which] of [["reach", 1], ["curve", 0]]) {
    const points = [];
    for (let part = 0; part < count; part += 1) {
      const height = up(bounds[2 * part + which]);
      points.push(`${((part / count) * width).toFixed(1)},${height}`, `${(((part + 1) / count) * width).toFixed(1)},${height}`);
    }
    svg.append(shape("polygon", { class: kind, points: points.concat([`${width},94`, "0,94"]).join(" ") }));
  }
  for (const span of truth) svg.append(bar(span, "truth-bar", 0, 8));
  for (const span of events) svg.append(bar(span, "event-bar", 92, 8));
  place.replaceChildren(svg);
}
