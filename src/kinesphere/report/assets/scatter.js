// The latent space: every particle a dot, the component being played a line, clusters as numbered rings.
"use strict";

(() => {
  const canvas = document.getElementById("scatter");
  const tip = document.getElementById("scatter-tip");
  const axisX = document.getElementById("axis-x");
  const axisY = document.getElementById("axis-y");
  const by = document.getElementById("point-colour");
  const { particles, data } = K;
  const n = particles.index.length;
  const MARGIN = { left: 50, right: 14, top: 12, bottom: 44 };
  const REACH_PX = 14;
  const names = Object.keys(particles.columns);
  let x = null;
  let y = null;
  let size = { width: 0, height: 0 };
  let state = K.stateOnPath(0, 0);
  let hovered = -1;
  let cloud = null;
  // Particles from left to right, for the arrow keys.
  let order = [];

  function options(select, entries, chosen) {
    for (const [value, text] of entries) {
      const option = document.createElement("option");
      option.value = value; option.textContent = text;
      select.append(option);
    }
    select.value = chosen;
  }

  const axes = names.map((name) => [name, K.axisName(name)]);
  options(axisX, axes, "pc1");
  options(axisY, axes, names.includes("pc2") ? "pc2" : "error1");
  const colourings = [["density", "density"], ["cluster", "cluster"], ["motion1", "main motion"], ["error1", "error"]];
  options(by, colourings, "density");

  function extent(values) {
    const low = K.percentile(values, 0.001), high = K.percentile(values, 0.999);
    const pad = 0.06 * (high - low) || 1;
    return [low - pad, high + pad];
  }

  // How many neighbours a dot has on a coarse grid, as a fraction of the fullest cell.
  function density(px, py) {
    const CELLS = 48;
    const grid = new Float32Array((CELLS + 2) ** 2);
    const cell = (i) => {
      const a = Math.floor((px[i] - MARGIN.left) / (size.width - MARGIN.left - MARGIN.right) * CELLS) + 1;
      const b = Math.floor((py[i] - MARGIN.top) / (size.height - MARGIN.top - MARGIN.bottom) * CELLS) + 1;
      return a < 1 || b < 1 || a > CELLS || b > CELLS ? -1 : b * (CELLS + 2) + a;
    };
    for (let i = 0; i < n; i++) { const c = cell(i); if (c >= 0) grid[c] += 1; }
    const smooth = grid.map((v, c) => 2 * v + (grid[c - 1] || 0) + (grid[c + 1] || 0) + (grid[c - CELLS - 2] || 0) + (grid[c + CELLS + 2] || 0));
    const top = Math.max(...smooth);
    return Array.from({ length: n }, (_, i) => { const c = cell(i); return c < 0 ? 0 : smooth[c] / top; });
  }

  function pointColours(px, py) {
    const how = by.value;
    if (how === "cluster") return Array.from(particles.cluster, (k) => K.groupColour(k + 1));
    if (how === "density") return density(px, py).map((w) => K.rampColour(Math.sqrt(w)));
    const values = particles.columns[how];
    const low = K.percentile(values, 0.02), high = K.percentile(values, 0.98);
    return Array.from(values, (v) => K.rampColour((v - low) / (high - low || 1)));
  }

  function rescale() {
    const [xl, xh] = extent(particles.columns[axisX.value]);
    const [yl, yh] = extent(particles.columns[axisY.value]);
    x = Object.assign(K.svg.scale(xl, xh, MARGIN.left, size.width - MARGIN.right), { low: xl, high: xh });
    y = Object.assign(K.svg.scale(yl, yh, size.height - MARGIN.bottom, MARGIN.top), { low: yl, high: yh });
  }

  // The dots change seldom, the marks often: the dots are painted once and kept.
  function paintCloud() {
    const ratio = devicePixelRatio || 1;
    const rect = canvas.getBoundingClientRect();
    size = { width: rect.width, height: rect.height };
    if (size.width < 40 || size.height < 40) return;
    canvas.width = Math.round(size.width * ratio);
    canvas.height = Math.round(size.height * ratio);
    rescale();
    cloud = document.createElement("canvas");
    cloud.width = canvas.width; cloud.height = canvas.height;
    const pen = cloud.getContext("2d");
    pen.scale(ratio, ratio);
    paintAxes(pen);
    const px = Array.from(particles.columns[axisX.value], x);
    const py = Array.from(particles.columns[axisY.value], y);
    const colours = pointColours(px, py);
    pen.globalAlpha = n > 1500 ? 0.6 : 0.75;
    const radius = n > 1500 ? 1.9 : 2.6;
    for (let i = 0; i < n; i++) {
      pen.fillStyle = colours[i];
      pen.beginPath(); pen.arc(px[i], py[i], radius, 0, 7); pen.fill();
    }
    const along = particles.columns[axisX.value];
    order = Array.from({ length: n }, (_, i) => i).sort((a, b) => along[a] - along[b]);
    paint();
  }

  function paintAxes(pen) {
    pen.font = `11.5px ${K.css("--sans")}`;
    pen.lineWidth = 1;
    pen.fillStyle = K.css("--soft");
    pen.strokeStyle = K.css("--grid");
    pen.textAlign = "center";
    for (const v of K.svg.ticks(x.low, x.high, size.width / 90)) {
      pen.beginPath(); pen.moveTo(x(v), MARGIN.top); pen.lineTo(x(v), size.height - MARGIN.bottom); pen.stroke();
      pen.fillText(K.svg.label(v), x(v), size.height - MARGIN.bottom + 17);
    }
    pen.fillText(K.axisName(axisX.value), (MARGIN.left + size.width - MARGIN.right) / 2, size.height - 8);
    pen.textAlign = "right";
    for (const v of K.svg.ticks(y.low, y.high, size.height / 60)) {
      pen.beginPath(); pen.moveTo(MARGIN.left, y(v)); pen.lineTo(size.width - MARGIN.right, y(v)); pen.stroke();
      pen.fillText(K.svg.label(v), MARGIN.left - 7, y(v) + 4);
    }
    pen.save();
    pen.translate(12, (MARGIN.top + size.height - MARGIN.bottom) / 2);
    pen.rotate(-Math.PI / 2);
    pen.textAlign = "center";
    pen.fillText(K.axisName(axisY.value), 0, 0);
    pen.restore();
  }

  const has = (place) => axisX.value in place && axisY.value in place;

  function paint() {
    if (!cloud) return;
    const ratio = devicePixelRatio || 1;
    const pen = canvas.getContext("2d");
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.clearRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(cloud, 0, 0);
    pen.scale(ratio, ratio);
    const ink = K.css("--ink"), card = K.css("--card"), accent = K.css("--accent");
    paintPath(pen, ink, card);
    paintClusters(pen, ink, card);
    if (hovered >= 0) ring(pen, x(particles.columns[axisX.value][hovered]), y(particles.columns[axisY.value][hovered]), 6, ink, null);
    if (has(state.place)) ring(pen, x(state.place[axisX.value]), y(state.place[axisY.value]), 6.5, card, accent);
  }

  function paintPath(pen, ink, card) {
    const columns = data.paths[state.kind === "path" ? state.path : 0].columns;
    if (!has(columns)) return;
    for (const [width, colour] of [[4, card], [1.75, ink]]) {
      pen.lineWidth = width; pen.strokeStyle = colour;
      pen.beginPath();
      columns[axisX.value].forEach((v, i) => pen.lineTo(x(v), y(columns[axisY.value][i])));
      pen.stroke();
    }
  }

  function paintClusters(pen, ink, card) {
    const columns = data.clusters.columns;
    if (!has(columns)) return;
    pen.font = `600 11px ${K.css("--sans")}`;
    pen.textAlign = "center";
    columns[axisX.value].forEach((v, k) => {
      const px = x(v), py = y(columns[axisY.value][k]);
      ring(pen, px, py, 9, ink, card);
      pen.fillStyle = ink;
      pen.fillText(String(k + 1), px, py + 4);
    });
  }

  function ring(pen, px, py, radius, stroke, fill) {
    pen.beginPath(); pen.arc(px, py, radius, 0, 7);
    if (fill) { pen.fillStyle = fill; pen.fill(); }
    pen.lineWidth = 1.75; pen.strokeStyle = stroke; pen.stroke();
  }

  function nearest(event) {
    const rect = canvas.getBoundingClientRect();
    const mx = event.clientX - rect.left, my = event.clientY - rect.top;
    const found = { cluster: -1, particle: -1 };
    const columns = data.clusters.columns;
    if (has(columns)) found.cluster = columns[axisX.value].findIndex((v, k) => Math.hypot(x(v) - mx, y(columns[axisY.value][k]) - my) < 10);
    let best = REACH_PX;
    const xs = particles.columns[axisX.value], ys = particles.columns[axisY.value];
    for (let i = 0; i < n; i++) {
      const d = Math.hypot(x(xs[i]) - mx, y(ys[i]) - my);
      if (d < best) { best = d; found.particle = i; }
    }
    return found;
  }

  function hover(i) {
    if (i === hovered) return;
    hovered = i;
    tip.hidden = i < 0;
    if (i >= 0) {
      const error = particles.columns.error1[i];
      tip.innerHTML = `image ${particles.index[i].toLocaleString("en")} · cluster ${particles.cluster[i] + 1}<br>component 1: ${particles.columns.pc1[i].toFixed(2)} ± ${error.toFixed(2)}`;
      const px = x(particles.columns[axisX.value][i]);
      tip.style.left = `${canvas.offsetLeft + Math.max(85, Math.min(size.width - 85, px))}px`;
      tip.style.top = `${canvas.offsetTop + y(particles.columns[axisY.value][i])}px`;
    }
    paint();
  }

  function select(newState) {
    K.stopPlaying();
    K.announce(newState);
  }

  canvas.addEventListener("pointermove", (event) => hover(nearest(event).particle));
  canvas.addEventListener("pointerleave", () => hover(-1));
  canvas.addEventListener("click", (event) => {
    const found = nearest(event);
    if (found.cluster >= 0) select(K.stateOfCluster(found.cluster));
    else if (found.particle >= 0) select(K.stateOfParticle(found.particle));
  });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const from = state.kind === "particle" ? order.indexOf(state.particle) : move > 0 ? -1 : n;
    const next = order[Math.max(0, Math.min(n - 1, from + move * (event.shiftKey ? 20 : 1)))];
    hover(next);
    select(K.stateOfParticle(next));
  });
  for (const control of [axisX, axisY, by]) control.addEventListener("change", paintCloud);
  new ResizeObserver(paintCloud).observe(canvas);
  K.onTheme(paintCloud);
  K.onShow((next) => { state = next; paint(); });

  const ratio = data.paths[0].signal_to_error;
  const sampled = n < particles.total ? ` ${n.toLocaleString("en")} of ${particles.total.toLocaleString("en")} particles are drawn.` : "";
  const certainty = ratio === null ? "" : `Along component 1 the particles spread ${ratio.toFixed(1)} times as far as the error of one.`;
  document.getElementById("scatter-note").textContent = `${certainty}${sampled} The line is the component that plays above.`;
})();
