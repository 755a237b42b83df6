// Decodes the page's data and keeps what is shown; the parts of the page listen to it.
"use strict";

const K = (() => {
  const VIEWS = { f4: Float32Array, i2: Int16Array, i4: Int32Array, u1: Uint8Array };

  // Arrays arrive as little-endian bytes in base 64, as every processor that runs a browser stores them.
  function decode(packed) {
    const text = atob(packed.data);
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
    const values = new VIEWS[packed.dtype](bytes.buffer);
    return packed.scale === undefined ? values : Float32Array.from(values, (v) => v * packed.scale);
  }

  function decodeColumns(columns) {
    return Object.fromEntries(Object.entries(columns).map(([name, packed]) => [name, decode(packed)]));
  }

  const data = JSON.parse(document.getElementById("data").textContent);
  const model = data.model;
  for (const name of ["chain", "body", "segment", "amplitude", "drawing_numbers", "atomic_numbers", "residue", "mean"]) {
    model[name] = decode(model[name]);
  }
  model.basis = model.basis.map(decode);
  const rank = model.basis.length;

  function decodeStates(states) {
    const flat = decode(states.coefficients);
    states.coefficients = Array.from({ length: flat.length / rank }, (_, i) => flat.subarray(i * rank, (i + 1) * rank));
    states.columns = decodeColumns(states.columns);
    return states;
  }

  data.paths.forEach(decodeStates);
  decodeStates(data.clusters);
  const particles = decodeStates(data.particles);
  for (const name of ["index", "cluster"]) particles[name] = decode(particles[name]);
  data.population.values = decode(data.population.values);
  for (const pair of data.distances) pair.values = decode(pair.values);

  const listeners = [];
  const onShow = (listener) => listeners.push(listener);
  const announce = (state) => listeners.forEach((listener) => listener(state));

  const mix = (a, b, w) => a + (b - a) * w;

  // A state is what the viewer draws: coefficients on the basis, a place on every axis, and a caption.
  function stateOnPath(number, t) {
    const path = data.paths[number];
    const at = t * (path.coefficients.length - 1);
    const low = Math.min(Math.floor(at), path.coefficients.length - 2);
    const w = at - low;
    const between = (values) => mix(values[low], values[low + 1], w);
    return {
      kind: "path", path: number, t,
      coefficients: path.coefficients[low].map((c, k) => mix(c, path.coefficients[low + 1][k], w)),
      place: Object.fromEntries(Object.entries(path.columns).map(([name, values]) => [name, between(values)])),
      caption: `Component ${number + 1}, ${Math.round(5 + 90 * t)}th percentile; nearest image ${path.nearest[Math.round(at)].toLocaleString("en")}`,
    };
  }

  const placeOf = (columns, i) => Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[i]]));

  function stateOfParticle(i) {
    return {
      kind: "particle", particle: i, coefficients: particles.coefficients[i], place: placeOf(particles.columns, i),
      caption: `Particle image ${particles.index[i].toLocaleString("en")}, cluster ${particles.cluster[i] + 1}`,
    };
  }

  function stateOfCluster(k) {
    const clusters = data.clusters;
    const share = (100 * clusters.size[k] / particles.total).toFixed(0);
    return {
      kind: "cluster", cluster: k, coefficients: clusters.coefficients[k], place: placeOf(clusters.columns, k),
      caption: `Cluster ${k + 1}: ${share}% of the particles, shown by image ${clusters.particle[k].toLocaleString("en")}`,
    };
  }

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const N_BODY_COLOURS = 9;
  // The core keeps the first, quiet colour; moving parts share the others.
  const groupColour = (number) => css(`--body-${number < N_BODY_COLOURS ? number + 1 : 2 + (number - 1) % (N_BODY_COLOURS - 1)}`);

  const RAMP = [[70, 104, 168], [143, 185, 201], [236, 228, 208], [227, 154, 79], [176, 64, 42]];
  function rampColour(w) {
    const at = Math.max(0, Math.min(1, w)) * (RAMP.length - 1);
    const low = Math.min(Math.floor(at), RAMP.length - 2);
    return `rgb(${RAMP[low].map((c, k) => Math.round(mix(c, RAMP[low + 1][k], at - low))).join(",")})`;
  }

  function percentile(values, p) {
    const sorted = Float64Array.from(values).sort();
    return sorted.length ? sorted[Math.round((sorted.length - 1) * p)] : 0;
  }

  const AXIS_NAMES = (name) => {
    if (name.startsWith("pc")) return `component ${name.slice(2)}`;
    if (name.startsWith("motion")) return name === "motion1" ? "main motion (Å)" : "second motion (Å)";
    if (name.startsWith("error")) return "error of component 1";
    return name.toUpperCase().replace(/(\d)$/, " $1");
  };

  return {
    data, model, particles, decode, onShow, announce, stateOnPath, stateOfParticle, stateOfCluster,
    css, groupColour, rampColour, percentile, axisName: AXIS_NAMES, mix,
    amplitudeTop: Math.max(percentile(model.amplitude, 0.98), 0.1),
    onTheme: (listener) => matchMedia("(prefers-color-scheme: dark)").addEventListener("change", listener),
  };
})();
