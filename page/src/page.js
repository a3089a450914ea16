// Draws every chart of the page with Chart.js, from the JSON beside it (charts.cpp), in the page's colours of the moment.
"use strict";
(() => {
  const charts = [];
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const faint = (tone, alpha) => tone + Math.round(alpha * 255).toString(16).padStart(2, "0");
  const known = (value) => value !== null && value !== undefined;

  function short(value) {
    const size = Math.abs(value);
    if (size >= 1e5) return Number(value.toPrecision(4)).toLocaleString("en");
    return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(2);
  }
  const shown = (value, percent) => (percent ? (100 * value).toFixed(1) + "%" : short(value));

  // ---- low and high of points, and marks: drawn here, since Chart.js has none of them ----

  function drawBand(context, points, x, y, tone) {
    let run = [];
    const close = () => {
      if (run.length > 1) {
        context.beginPath();
        for (const p of run) context.lineTo(x(p.x), y(p.high));
        for (const p of run.reverse()) context.lineTo(x(p.x), y(p.low));
        context.closePath();
        context.fillStyle = faint(tone, 0.18);
        context.fill();
      }
      run = [];
    };
    for (const p of points) {
      if (known(p.low) && known(p.high)) run.push(p);
      else close();
    }
    close();
  }

  function drawWhiskers(context, points, x, y, tone, aside) {
    const half = 4;
    context.strokeStyle = tone;
    context.lineWidth = 1.5;
    context.setLineDash([]);
    context.beginPath();
    for (const p of points) {
      if (!known(p.low) || !known(p.high)) continue;
      const at = x(p.x) + aside;
      for (const end of [p.low, p.high]) {
        context.moveTo(at - half, y(end));
        context.lineTo(at + half, y(end));
      }
      context.moveTo(at, y(p.low));
      context.lineTo(at, y(p.high));
    }
    context.stroke();
  }

  function within(chart, draw) {
    const { ctx: context, chartArea: area, scales } = chart;
    context.save();
    context.beginPath();
    context.rect(area.left, area.top, area.right - area.left, area.bottom - area.top);
    context.clip();
    draw(context, (value) => scales.x.getPixelForValue(value), (value) => scales.y.getPixelForValue(value));
    context.restore();
  }

  function drawSpread(chart, kind, draw) {
    const sets = chart.data.datasets.filter((set, index) => set.spread === kind && chart.isDatasetVisible(index));
    within(chart, (context, x, y) => {
      // Beside each other, or those of points that nearly agree could not be told apart.
      sets.forEach((set, place) => {
        draw(context, set.data, x, y, set.borderColor, 6 * (place - (sets.length - 1) / 2));
      });
    });
  }

  function drawMarks(chart, marks) {
    within(chart, (context, x) => {
      context.font = "11px " + Chart.defaults.font.family;
      context.fillStyle = context.strokeStyle = colour("--soft");
      context.setLineDash([3, 3]);
      marks.forEach((mark, index) => {
        const at = Math.round(x(mark.x)) + 0.5;
        context.beginPath();
        context.moveTo(at, chart.chartArea.top);
        context.lineTo(at, chart.chartArea.bottom);
        context.stroke();
        // Beside the line, away from the edge, and not on its neighbour's words.
        const right = at > (chart.chartArea.left + chart.chartArea.right) / 2;
        context.textAlign = right ? "right" : "left";
        context.fillText(mark.text, at + (right ? -4 : 4), chart.chartArea.top + 12 + 13 * (index % 4));
      });
    });
  }

  const extras = {
    id: "paceline",
    beforeDatasetsDraw: (chart) => drawSpread(chart, "band", drawBand),
    afterDatasetsDraw: (chart, _, options) => {
      drawSpread(chart, "whiskers", drawWhiskers);
      drawMarks(chart, options.marks || []);
    },
  };

  // ---- from our JSON to Chart.js's settings ----

  const dashes = { line: [], dashed: [7, 5], dotted: [2, 4], points: [] };

  function lineSet(line, spec) {
    const tone = colour("--tone-" + line.tone);
    const alone = line.look === "points";
    const few = line.points.length <= 60;
    return {
      label: line.name,
      data: line.points,
      spread: line.points.some((p) => known(p.low)) ? line.spread : "none",
      borderColor: tone,
      backgroundColor: spec.stacked ? faint(tone, 0.55) : tone,
      fill: spec.stacked ? "stack" : false,
      stepped: spec.stepped,
      borderDash: dashes[line.look],
      borderWidth: spec.stacked ? 1 : 2,
      showLine: !alone,
      pointRadius: spec.stacked ? 0 : alone ? 4 : few && line.look === "line" ? 3 : 0,
      pointHitRadius: 8,
    };
  }

  function barSet(bars) {
    const tone = colour("--tone-" + bars.tone);
    return { label: bars.name, data: bars.values, backgroundColor: tone, maxBarThickness: 72 };
  }

  function axis(title, more) {
    return {
      title: { display: title !== "", text: title, color: colour("--soft") },
      grid: { color: colour("--rule"), borderColor: colour("--rule") },
      ...more,
      ticks: { color: colour("--soft"), ...more.ticks },
    };
  }

  // Low and high have to be within the scale too.
  function widen(scale) {
    scale.chart.data.datasets.forEach((set, index) => {
      if (set.spread === "none" || set.spread === undefined || !scale.chart.isDatasetVisible(index)) return;
      for (const p of set.data) {
        if (known(p.low)) scale.min = Math.min(scale.min, p.low);
        if (known(p.high) && !known(scale.options.max)) scale.max = Math.max(scale.max, p.high);
      }
    });
  }

  function xAxis(spec) {
    if (spec.kind === "bars") return axis("", { stacked: spec.stacked, grid: { display: false } });
    const xs = spec.lines.flatMap((line) => line.points.map((p) => p.x)).filter(known);
    const ticks = { maxRotation: 0 };
    let afterBuildTicks;
    if (spec.xTicks.length > 0) {
      afterBuildTicks = (scale) => { scale.ticks = spec.xTicks.map((value) => ({ value })); };
      ticks.callback = (value) => value;
    }
    const room = spec.xTicks.length > 0 ? 0.03 * (Math.max(...xs) - Math.min(...xs) || 1) : 0;
    const least = xs.reduce((a, b) => Math.min(a, b), Infinity);
    const most = xs.reduce((a, b) => Math.max(a, b), -Infinity);
    return axis(spec.xTitle, {
      type: "linear",
      min: Number.isFinite(least) ? least - room : undefined,
      max: Number.isFinite(most) ? most + room : undefined,
      ticks,
      afterBuildTicks,
    });
  }

  // A line is a line there too, dashes and all; areas and bars are boxes.
  function legendLabels(spec) {
    const labels = { color: colour("--ink"), boxWidth: 28 };
    if (spec.kind === "bars" || spec.stacked) return labels;
    const generate = (chart) => Chart.defaults.plugins.legend.labels.generateLabels(chart).map((label) => {
      const set = chart.data.datasets[label.datasetIndex];
      const pointStyle = set.showLine ? "line" : "circle";
      return { ...label, pointStyle, lineDash: set.borderDash, lineWidth: 2, strokeStyle: set.borderColor };
    });
    return { ...labels, usePointStyle: true, pointStyleWidth: 28, generateLabels: generate };
  }

  function options(spec) {
    const percent = spec.percent;
    return {
      animation: false,
      responsive: true,
      maintainAspectRatio: false,
      interaction: { mode: spec.kind === "bars" ? "index" : "nearest", axis: "x", intersect: false },
      scales: {
        x: xAxis(spec),
        y: axis(spec.yTitle, {
          beginAtZero: spec.kind === "bars" || spec.fromZero,
          stacked: spec.stacked,
          max: known(spec.yMost) ? spec.yMost : undefined,
          afterDataLimits: spec.stacked ? undefined : widen,
          ticks: percent ? { callback: (value) => +(100 * value).toFixed(6) + "%" } : {},
        }),
      },
      plugins: {
        legend: { labels: legendLabels(spec) },
        tooltip: {
          callbacks: {
            title: (items) => (spec.kind === "bars" || items.length === 0 ? undefined
              : [spec.xTitle, String(items[0].raw.x)].filter((part) => part !== "").join(" ")),
            label: (item) => {
              const raw = item.raw;
              const range = raw && known(raw.low) && known(raw.high)
                ? ` (${shown(raw.low, percent)} to ${shown(raw.high, percent)})` : "";
              return `${item.dataset.label}: ${shown(item.parsed.y, percent)}${range}`;
            },
          },
        },
        paceline: { marks: spec.marks },
      },
    };
  }

  function configuration(spec) {
    const bars = spec.kind === "bars";
    return {
      type: bars ? "bar" : "line",
      data: bars ? { labels: spec.categories, datasets: spec.bars.map(barSet) }
        : { datasets: spec.lines.map((line) => lineSet(line, spec)) },
      options: options(spec),
      plugins: [extras],
    };
  }

  // ---- the page ----

  function recolour() {
    for (const { chart, spec } of charts) {
      const fresh = configuration(spec);
      chart.data.datasets.forEach((set, index) => Object.assign(set, fresh.data.datasets[index]));
      chart.options = fresh.options;
      chart.update("none");
    }
  }

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  for (const figure of document.querySelectorAll("figure.chart")) {
    const spec = JSON.parse(figure.querySelector("script").textContent);
    charts.push({ chart: new Chart(figure.querySelector("canvas"), configuration(spec)), spec });
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
  addEventListener("beforeprint", () => {
    document.documentElement.classList.add("printing");
    recolour();
    for (const { chart } of charts) chart.resize(690, 300);
  });
  addEventListener("afterprint", () => {
    document.documentElement.classList.remove("printing");
    recolour();
    for (const { chart } of charts) chart.resize();
  });
  // For tests: everything was drawn.
  document.documentElement.dataset.charts = String(charts.length);
})();
