// The index: choosing a run, the table of videos (sorted, filtered, a part at a time), strips drawn when they are seen.
"use strict";

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const STEP = 100;
  const by = (id) => document.getElementById(id);
  const [ID, HREF, CLASSES, DURATION, LOST, TRUTH] = [0, 1, 2, 3, 4, 5];
  const [CURVE, EVENTS, PEAK, OUTSIDE, AUC, HITS, MISSES, FALSE_ALARMS, ERROR] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const [RAISED, WITHIN] = [9, 10]; // only without ground truth
  ({ timed, judged } = data);
  let run = 0, column = judged ? "error" : "peak", descending = true, limit = STEP;

  const value = {
    name: (video) => data.videos[video][ID],
    truth: (video) => data.videos[video][CLASSES].map((number) => data.classes[number]).join(", "),
    duration: (video) => data.videos[video][DURATION],
    peak: (video) => data.scores[run][video][PEAK],
    outside: (video) => data.scores[run][video][OUTSIDE],
    auc: (video) => data.scores[run][video][AUC],
    found: (video) => (data.videos[video][TRUTH].length ? data.scores[run][video][HITS] / data.videos[video][TRUTH].length : null),
    alarms: (video) => data.scores[run][video][FALSE_ALARMS],
    error: (video) => data.scores[run][video][ERROR],
    raised: (video) => classesOf(video).map((number) => data.classes[number]).join(", "),
    within: (video) => data.scores[run][video][WITHIN],
  };

  function classesOf(video) {
    return judged ? data.videos[video][CLASSES] : data.scores[run][video][RAISED];
  }

  const kinds = {
    all: () => true,
    anomalous: (video) => data.videos[video][TRUTH].length > 0,
    normal: (video) => data.videos[video][TRUTH].length === 0,
    alarms: (video) => data.scores[run][video][FALSE_ALARMS] > 0,
    quiet: (video) => data.scores[run][video][FALSE_ALARMS] === 0,
    missed: (video) => data.scores[run][video][MISSES] > 0,
    damaged: (video) => data.videos[video][LOST] > 0,
  };

  function draw(place) {
    const video = data.videos[place.dataset.video], scores = data.scores[place.dataset.run][place.dataset.video];
    const what = `Scores of ${video[ID]} by ${data.runs[place.dataset.run]}`;
    drawStrip(place, what, decode(scores[CURVE]), video[DURATION], video[TRUTH], scores[EVENTS]);
  }

  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        seen.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "300px" });

  function strip(video, number) {
    const place = element("span", { class: "strip" });
    place.dataset.video = video;
    place.dataset.run = number;
    seen.observe(place);
    return place;
  }

  function chosen() {
    const text = by("search").value.trim().toLowerCase(), kind = kinds[by("kind").value], wanted = by("class").value;
    const found = [];
    for (let video = 0; video < data.videos.length; video += 1) {
      const facts = data.videos[video];
      if (text && !facts[ID].toLowerCase().includes(text)) continue;
      if (wanted !== "" && !classesOf(video).includes(Number(wanted))) continue;
      if (kind(video)) found.push(video);
    }
    const of = value[column], sign = descending ? -1 : 1;
    const order = new Intl.Collator(undefined, { numeric: true });
    return found.sort((one, other) => {
      const first = of(one), second = of(other);
      if (first === null || second === null) return (first === null) - (second === null); // undefined ones last
      return sign * (typeof first === "string" ? order.compare(first, second) : first - second) || one - other;
    });
  }

  const shown = (number) => (number === null ? "\u2013" : number.toFixed(2));

  function badges(numbers, kind, otherwise) {
    if (!numbers.length) return [otherwise];
    return numbers.flatMap((number) => [element("span", { class: `badge ${kind}` }, data.classes[number]), " "]);
  }

  function name(video) {
    const facts = data.videos[video], found = [element("a", { href: facts[HREF] }, facts[ID])];
    if (facts[LOST]) found.push(" ", element("span", { class: "badge bad" }, `${facts[LOST]} frames lost`));
    const together = by("together").checked;
    for (let number = 0; number < data.runs.length; number += 1) {
      if (!together && number !== run) continue;
      if (together) found.push(element("span", { class: "run-label" }, data.runs[number]));
      found.push(strip(video, number));
    }
    return found;
  }

  const cells = {
    name,
    truth: (video) => badges(classesOf(video), "truth", "normal"),
    raised: (video) => badges(classesOf(video), "event", "\u2013"),
    duration: (video) => [lasting(value.duration(video))],
    found: (video) => [data.videos[video][TRUTH].length ? `${data.scores[run][video][HITS]} of ${data.videos[video][TRUTH].length}` : "\u2013"],
    alarms: (video) => [String(value.alarms(video))],
    within: (video) => [value.alarms(video) ? lasting(value.within(video)) : "\u2013"],
  };
  const columns = [...document.querySelectorAll("#videos-table th[data-column]")].map((head) => [head.dataset.column, head.className]);

  function row(video) {
    const made = element("tr");
    for (const [key, place] of columns) {
      const cell = element("td", place ? { class: place } : {});
      cell.append(...(cells[key] ? cells[key](video) : [shown(value[key](video))]));
      made.append(cell);
    }
    return made;
  }

  function show() {
    const found = chosen(), rows = document.createDocumentFragment();
    for (const video of found.slice(0, limit)) rows.append(row(video));
    by("rows").replaceChildren(rows);
    const some = Math.min(limit, found.length);
    by("count").textContent = found.length ? `${some} of ${found.length} videos shown` + (found.length < data.videos.length ? `, ${data.videos.length} in all` : "")
      + (by("together").checked && data.runs.length > 1 ? `; the numbers are of ${data.runs[run]}` : "") : "No video fits.";
    by("more").hidden = by("everything").hidden = found.length <= limit;
    by("more").textContent = `Show ${Math.min(STEP, found.length - some)} more`;
    for (const head of document.querySelectorAll("#videos-table th[data-column]")) {
      head.setAttribute("aria-sort", head.dataset.column === column ? (descending ? "descending" : "ascending") : "none");
    }
    document.documentElement.dataset.ready = "yes";
  }

  function again() {
    limit = STEP;
    show();
  }

  for (const head of document.querySelectorAll("#videos-table th[data-column]")) {
    head.querySelector("button").addEventListener("click", () => {
      descending = head.dataset.column === column ? !descending : !["name", "truth", "raised"].includes(head.dataset.column);
      column = head.dataset.column;
      again();
    });
  }
  for (const name of ["search", "kind", "class", "together"]) by(name).addEventListener("input", again);
  by("more").addEventListener("click", () => { limit += STEP; show(); });
  by("everything").addEventListener("click", () => { limit = data.videos.length; show(); });
  by("run").addEventListener("input", () => {
    run = Number(by("run").value);
    for (const part of document.querySelectorAll("[data-of-run]")) part.hidden = Number(part.dataset.ofRun) !== run;
    again();
  });
  for (const place of document.querySelectorAll(".strip[data-video]")) seen.observe(place);
  by("run").dispatchEvent(new Event("input")); // a browser keeps what was chosen when it comes back to a page
})();
