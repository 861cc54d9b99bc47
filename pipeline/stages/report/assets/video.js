// The page of a video: timelines in step with playback, seeking by pointer, by keys and from event to event.
"use strict";

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const line = by("timeline"), cursor = by("cursor"), video = by("video"), readOut = by("read-out");
  const curves = [];
  let now = 0;
  ({ timed, judged } = data);

  for (const place of line.querySelectorAll(".strip")) {
    const curve = data.runs[place.dataset.run].curves[place.dataset.curve], bounds = decode(curve.bounds);
    if (place.dataset.curve === "0") curves.push([data.runs[place.dataset.run].title, bounds]);
    drawStrip(place, curve.what, bounds, data.duration, curve.truth, curve.events, [0, 0.5, 1]);
  }
  const stops = [...new Set([...document.querySelectorAll("tr[data-start]")].map((row) => Number(row.dataset.start)))].sort((a, b) => a - b);

  function at(bounds) {
    const count = bounds.length / 2, part = Math.min(count - 1, Math.floor((now / data.duration) * count));
    return (bounds[2 * part + 1] / 255).toFixed(2);
  }

  function showNow() {
    cursor.style.left = `${(now / data.duration) * 100}%`;
    const told = `${clock(now)} of ${lasting(data.duration)}: ` + curves.map(([title, bounds]) => `${title} ${at(bounds)}`).join(", ");
    readOut.textContent = told;
    line.setAttribute("aria-valuenow", now.toFixed(1));
    line.setAttribute("aria-valuetext", told);
    for (const row of document.querySelectorAll("tr[data-start]")) {
      row.classList.toggle("now", now >= Number(row.dataset.start) && now < Number(row.dataset.end));
    }
  }

  function seek(seconds) {
    now = Math.max(0, Math.min(data.duration, seconds));
    if (video && video.readyState > 0) video.currentTime = now;
    else if (video) video.addEventListener("loadedmetadata", () => { video.currentTime = now; }, { once: true });
    showNow();
  }

  function jump(direction) {
    const further = direction > 0 ? stops.find((stop) => stop > now + 0.05) : stops.filter((stop) => stop < now - 0.05).pop();
    if (further !== undefined) seek(further);
  }

  function follow() {
    now = video.currentTime;
    showNow();
    if (!video.paused && !video.ended) requestAnimationFrame(follow);
  }

  if (video) {
    video.addEventListener("play", follow);
    video.addEventListener("seeked", follow);
    video.addEventListener("error", () => { by("video-failed").hidden = false; });
  }

  function pointed(event) {
    const box = line.getBoundingClientRect();
    seek(((event.clientX - box.left) / box.width) * data.duration);
  }
  line.addEventListener("pointerdown", (event) => { line.setPointerCapture(event.pointerId); line.focus({ preventScroll: true }); pointed(event); });
  line.addEventListener("pointermove", (event) => { if (line.hasPointerCapture(event.pointerId)) pointed(event); });

  const keys = new Map([
    ["ArrowLeft", () => seek(now - 1)], ["ArrowRight", () => seek(now + 1)], ["ArrowDown", () => seek(now - 1)], ["ArrowUp", () => seek(now + 1)],
    ["Home", () => seek(0)], ["End", () => seek(data.duration)], ["PageUp", () => jump(-1)], ["PageDown", () => jump(1)],
    [" ", () => video && (video.paused ? video.play() : video.pause())],
  ]);
  line.addEventListener("keydown", (event) => {
    if (keys.has(event.key)) { event.preventDefault(); keys.get(event.key)(); }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.closest("input, select, textarea")) return;
    if (event.key === "n") jump(1);
    if (event.key === "p") jump(-1);
  });
  by("next").addEventListener("click", () => jump(1));
  by("previous").addEventListener("click", () => jump(-1));
  for (const button of document.querySelectorAll("button[data-time]")) button.addEventListener("click", () => seek(Number(button.dataset.time)));

  const start = /^#t=([0-9.]+)$/.exec(location.hash);
  seek(start ? Number(start[1]) : 0);
  document.documentElement.dataset.ready = "yes";
})();
