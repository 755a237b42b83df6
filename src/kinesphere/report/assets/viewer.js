// The molecule in three dimensions: any structure of the run, built from the basis, and the playing of components.
"use strict";

(() => {
  const box = document.getElementById("molecule");
  const controls = Object.fromEntries(["play", "position", "path", "colour", "drawing", "reset", "shown", "colour-legend"].map((id) => [id, document.getElementById(id)]));
  const { model, data } = K;
  const SECONDS_ONE_WAY = 3.2;
  const FILL = 1.25;
  const HIGHLIGHT_ATOM = new Set(["CA", "P"]);
  const ELEMENT = { 6: "C", 7: "N", 8: "O", 15: "P", 16: "S", 12: "Mg", 20: "Ca", 30: "Zn", 26: "Fe", 11: "Na", 17: "Cl" };
  const CODE = { h: "h", s: "s", c: "c" };

  let viewer = null;
  let molecule = null;
  let atoms = [];
  let colours = [];
  let spot = null;
  let playing = false;
  let current = K.stateOnPath(0, 0);

  function webglWorks() {
    const canvas = document.createElement("canvas");
    return Boolean(canvas.getContext("webgl2") || canvas.getContext("webgl"));
  }

  function makeAtoms() {
    return model.atom_names.map((name, i) => {
      const residue = model.residue[i];
      const code = CODE[model.structure[residue]];
      return {
        atom: name, elem: ELEMENT[model.atomic_numbers[i]] || "C", resn: model.drawing_names[i],
        chain: String(model.chain[residue]), resi: model.drawing_numbers[i], serial: i, index: i,
        ss: code, hetflag: false, bonds: [], bondOrder: [], properties: {}, x: 0, y: 0, z: 0,
      };
    });
  }

  function place(coefficients) {
    const { mean, basis } = model;
    let sum = 0;
    for (let i = 0; i < atoms.length; i++) {
      let x = mean[3 * i], y = mean[3 * i + 1], z = mean[3 * i + 2];
      for (let k = 0; k < basis.length; k++) {
        const c = coefficients[k];
        x += c * basis[k][3 * i]; y += c * basis[k][3 * i + 1]; z += c * basis[k][3 * i + 2];
      }
      const atom = atoms[i];
      atom.x = x; atom.y = y; atom.z = z;
      // 3Dmol marks arrow heads on the atoms themselves while it draws.
      atom.ss = CODE[model.structure[model.residue[i]]];
      sum += x * ((i % 7) + 1) + y * ((i % 5) + 1) + z * ((i % 3) + 1);
    }
    box.dataset.structure = sum.toFixed(3);
  }

  function residueColours() {
    const by = controls.colour.value;
    return Array.from(model.amplitude, (value, r) => {
      if (by === "amplitude") return K.rampColour(value / K.amplitudeTop);
      return K.groupColour(by === "body" ? model.body[r] : by === "segment" ? model.segment[r] + 1 : model.chain[r] + 1);
    });
  }

  function style() {
    const trace = model.trace || controls.drawing.value === "trace";
    const colorfunc = (atom) => colours[model.residue[atom.index]];
    molecule.setStyle({}, { cartoon: trace ? { style: "trace", thickness: model.stride > 1 ? 0.9 : 0.45, colorfunc } : { colorfunc, arrows: true, thickness: 0.42, width: 0.9 } });
    molecule.setStyle({ resn: "LIG" }, { sphere: { scale: 0.32, colorfunc } });
    if (spot !== null) molecule.setStyle({ index: spot }, { sphere: { radius: 2.1, color: K.css("--ink") } }, true);
  }

  function draw() {
    if (!viewer) return;
    place(current.coefficients);
    style();
    viewer.render();
    box.dataset.position = current.kind === "path" ? current.t.toFixed(3) : current.kind;
  }

  function setColours() {
    colours = residueColours();
    legend();
    draw();
  }

  function legend() {
    const by = controls.colour.value;
    const target = controls["colour-legend"];
    if (by === "amplitude") {
      const stops = [0, 0.25, 0.5, 0.75, 1].map(K.rampColour).join(",");
      target.innerHTML = `<span class="key">0 Å <span class="ramp" style="background:linear-gradient(90deg,${stops})"></span> ${K.amplitudeTop.toFixed(1)} Å RMS displacement</span>`;
      return;
    }
    const named = { body: data.bodies, segment: data.segments, chain: model.chains.map((name) => ({ number: name })) }[by];
    const word = { body: "body", segment: "segment", chain: "chain" }[by];
    target.innerHTML = named.slice(0, 8).map((group, k) => {
      const colour = K.groupColour(by === "body" ? k : k + 1);
      const core = by === "body" && k === 0 ? " (core)" : "";
      return `<span class="key"><span class="swatch" style="--swatch:${colour}"></span>${word} ${group.number}${core}</span>`;
    }).join("");
  }

  function show(state) {
    current = state;
    controls.shown.textContent = state.caption;
    if (state.kind === "path") controls.position.value = Math.round(state.t * 1000);
    controls.position.setAttribute("aria-valuetext", state.caption);
    draw();
  }

  function play(on) {
    playing = on;
    controls.play.setAttribute("aria-pressed", String(on));
    controls.play.setAttribute("aria-label", on ? "Pause" : "Play");
    if (on) requestAnimationFrame(step);
  }

  // A cosine, so that the motion is slow at both ends, where it turns.
  let phase = 0;
  let last = 0;
  function step(now) {
    if (!playing) return;
    const elapsed = Math.min((now - last) / 1000, 0.25);
    last = now;
    phase += elapsed / SECONDS_ONE_WAY * Math.PI;
    K.announce(K.stateOnPath(Number(controls.path.value), (1 - Math.cos(phase)) / 2));
    requestAnimationFrame(step);
  }

  function fromSlider() {
    play(false);
    const t = controls.position.value / 1000;
    phase = Math.acos(1 - 2 * t);
    K.announce(K.stateOnPath(Number(controls.path.value), t));
  }

  function background() {
    viewer.setBackgroundColor(K.css("--card"), 0);
  }

  function start() {
    viewer = $3Dmol.createViewer(box, { backgroundAlpha: 0, antialias: true, cartoonQuality: atoms.length > 3000 ? 4 : 8, disableFog: false });
    background();
    molecule = viewer.addModel();
    atoms = makeAtoms();
    place(K.stateOnPath(0, 0.5).coefficients);
    molecule.addAtoms(atoms);
    // addAtoms copies; these are the atoms that are drawn.
    atoms = molecule.selectedAtoms({});
    viewer.setProjection("orthographic");
    lieDown();
    viewer.zoomTo();
    viewer.zoom(FILL);
    setColours();
    box.dataset.ready = "true";
  }

  // The longest axis of the molecule goes across, the shortest towards the reader.
  function lieDown() {
    const centre = [0, 0, 0];
    for (const atom of atoms) { centre[0] += atom.x / atoms.length; centre[1] += atom.y / atoms.length; centre[2] += atom.z / atoms.length; }
    const m = [[0, 0, 0], [0, 0, 0], [0, 0, 0]];
    for (const atom of atoms) {
      const d = [atom.x - centre[0], atom.y - centre[1], atom.z - centre[2]];
      for (let a = 0; a < 3; a++) for (let b = 0; b < 3; b++) m[a][b] += d[a] * d[b] / atoms.length;
    }
    const across = longest(m, [1, 0.3, 0.2]);
    const variance = across.reduce((sum, v, a) => sum + v * m[a].reduce((s, c, b) => s + c * across[b], 0), 0);
    const rest = m.map((row, a) => row.map((c, b) => c - variance * across[a] * across[b]));
    const up = longest(rest, [0.2, 1, -0.3]);
    const out = [across[1] * up[2] - across[2] * up[1], across[2] * up[0] - across[0] * up[2], across[0] * up[1] - across[1] * up[0]];
    const view = viewer.getView();
    viewer.setView([...view.slice(0, 4), ...quaternion([across, up, out])]);
  }

  function longest(m, start) {
    let v = start;
    for (let i = 0; i < 60; i++) {
      v = m.map((row) => row[0] * v[0] + row[1] * v[1] + row[2] * v[2]);
      const length = Math.hypot(...v) || 1;
      v = v.map((c) => c / length);
    }
    return v;
  }

  function quaternion(r) {
    const pick = [[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]].map((s) => 1 + s[0] * r[0][0] + s[1] * r[1][1] + s[2] * r[2][2]);
    const q = [r[2][1] - r[1][2], r[0][2] - r[2][0], r[1][0] - r[0][1]];
    const best = pick.indexOf(Math.max(...pick));
    const size = Math.sqrt(pick[best]) / 2;
    if (best === 0) return [...q.map((c) => c / (4 * size)), size];
    const a = best - 1, b = (a + 1) % 3, c = (a + 2) % 3;
    const result = [0, 0, 0, q[a] / (4 * size)];
    result[a] = size;
    result[b] = (r[a][b] + r[b][a]) / (4 * size);
    result[c] = (r[a][c] + r[c][a]) / (4 * size);
    return result;
  }

  data.paths.forEach((path, k) => {
    const option = document.createElement("option");
    option.value = k;
    option.textContent = `component ${k + 1} (${path.motion.toFixed(1)} Å)`;
    controls.path.append(option);
  });
  if (model.trace) controls.drawing.closest("label").hidden = true;

  controls.play.addEventListener("click", () => { last = performance.now(); play(!playing); });
  controls.position.addEventListener("input", fromSlider);
  controls.path.addEventListener("change", () => { if (!playing) fromSlider(); });
  controls.colour.addEventListener("change", setColours);
  controls.drawing.addEventListener("change", draw);
  controls.reset.addEventListener("click", () => { if (viewer) { lieDown(); viewer.zoomTo(); viewer.zoom(FILL); viewer.render(); } });

  K.onShow(show);
  K.stopPlaying = () => play(false);
  K.highlight = (residue) => {
    const found = residue === null ? -1 : model.residue.findIndex((r, i) => r === residue && HIGHLIGHT_ATOM.has(model.atom_names[i]));
    const next = found < 0 ? null : found;
    if (next === spot) return;
    spot = next;
    if (!playing) draw();
  };

  if (webglWorks()) {
    start();
    K.onTheme(() => { background(); setColours(); });
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    new IntersectionObserver((entries, observer) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      if (!still) { last = performance.now(); play(true); }
    }).observe(box);
  } else {
    box.classList.add("unavailable");
    box.textContent = "This browser cannot draw in 3-D (no WebGL). Open analysis/open_in_chimerax.cxc instead.";
  }
})();
