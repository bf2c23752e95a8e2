// What the panels that draw on canvases share.

// The value of a colour or font of the theme.
export const themeValue = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
export const isDark = () => getComputedStyle(document.documentElement).colorScheme === "dark";

// Fits a canvas to its box at the screen's resolution; returns its context, in CSS pixels, and its size.
export function prepareCanvas(canvas) {
  const ratio = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return { context, width, height };
}

export function drawLine(context, x0, y0, x1, y1) {
  context.beginPath();
  context.moveTo(x0, y0);
  context.lineTo(x1, y1);
  context.stroke();
}
