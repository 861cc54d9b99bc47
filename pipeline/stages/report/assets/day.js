// A day: the scores of its videos over time, each drawn when it is seen.
"use strict";

(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const [NAME, CURVE, DURATION, EVENTS] = [0, 1, 2, 3];
  judged = false;
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      const video = data.videos[entry.target.dataset.video];
      drawStrip(entry.target, `Scores of ${video[NAME]}`, decode(video[CURVE]), video[DURATION], [], video[EVENTS]);
    }
  }, { rootMargin: "300px" });
  for (const place of document.querySelectorAll(".strip[data-video]")) seen.observe(place);
})();
