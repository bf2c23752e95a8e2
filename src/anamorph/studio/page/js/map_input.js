// Pointers, the wheel and keys on the map: they move and zoom it, select images, and take one.

const CLICK_PIXELS = 4;
const KEY_STEP = 0.12;
const KEY_ZOOM = 1.25;
const WHEEL_ZOOM = 0.0016;
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
const ZOOMS = { "+": KEY_ZOOM, "-": 1 / KEY_ZOOM };

export class MapInput {
  // boxMode(): whether a drag selects. onchoose(image) and onselect(images) report what was done.
  constructor(view, { boxMode, onchoose, onselect }) {
    Object.assign(this, { view, boxMode, onchoose, onselect, pointers: new Map(), start: null, pinch: null });
    const { canvas } = view;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.drag(event));
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, (event) => this.release(event));
    canvas.addEventListener("wheel", (event) => this.onWheel(event), { passive: false });
    canvas.addEventListener("keydown", (event) => this.onKey(event));
  }

  // Pixels between two fingers.
  get spread() {
    const [a, b] = [...this.pointers.values()];
    return Math.hypot(a[0] - b[0], a[1] - b[1]);
  }

  press(event) {
    const { view } = this;
    view.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.start = { px: event.offsetX, py: event.offsetY, x: view.x, y: view.y, moved: false, selects: this.boxMode() || event.shiftKey };
    if (this.pointers.size === 2) this.pinch = { spread: this.spread, zoom: view.zoom };
  }

  drag(event) {
    const { view, start } = this;
    if (!this.pointers.has(event.pointerId)) return;
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pinch && this.pointers.size === 2) {
      start.moved = true;
      view.zoomAt(...view.centre, (this.pinch.zoom * this.spread) / this.pinch.spread);
      return;
    }
    const [dx, dy] = [event.offsetX - start.px, event.offsetY - start.py];
    if (Math.hypot(dx, dy) > CLICK_PIXELS) start.moved = true;
    if (!start.moved) return;
    if (start.selects) view.box = [start.px, start.py, event.offsetX, event.offsetY];
    else [view.x, view.y] = [start.x - dx / view.scale, start.y + dy / view.scale];
    view.draw();
  }

  release(event) {
    const { view, start } = this;
    if (!this.pointers.delete(event.pointerId)) return;
    this.pinch = null;
    if (view.box) {
      const images = view.map ? view.imagesIn(view.box) : [];
      view.box = null;
      this.onselect(images);
    } else if (start && !start.moved && event.type === "pointerup") this.onchoose(view.imageAt(event.offsetX, event.offsetY));
    view.draw();
  }

  onWheel(event) {
    event.preventDefault();
    this.view.zoomAt(event.offsetX, event.offsetY, this.view.zoom * Math.exp(-event.deltaY * WHEEL_ZOOM));
  }

  onKey(event) {
    const { view } = this;
    const step = KEY_STEP / view.zoom;
    if (event.key in ARROWS) view.moveBy(...ARROWS[event.key].map((direction) => direction * step));
    else if (event.key in ZOOMS) view.zoomAt(...view.centre, view.zoom * ZOOMS[event.key]);
    else if (event.key === "Enter") this.onchoose(view.imageAt(...view.centre));
    else return;
    event.preventDefault();
  }
}
