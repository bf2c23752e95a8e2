// Rules for the page of the studio. `npm install --global eslint @eslint/js` brings what they need; then
// `NODE_PATH=$(npm root --global) eslint src/anamorph/studio/page` checks them, as tests/studio/test_page_source.py does.

const js = require("@eslint/js");

const BROWSER = [
  "Audio", "Blob", "CustomEvent", "IntersectionObserver", "ResizeObserver", "TextDecoder", "URL", "WebSocket", "clearTimeout",
  "createImageBitmap", "devicePixelRatio", "document", "fetch", "getComputedStyle", "getSelection", "history", "localStorage",
  "location", "matchMedia", "navigator", "performance", "requestAnimationFrame", "setTimeout", "window",
];

module.exports = [
  js.configs.recommended,
  {
    files: ["src/anamorph/studio/page/**/*.js"],
    languageOptions: {
      ecmaVersion: 2024,
      sourceType: "module",
      globals: Object.fromEntries(BROWSER.map((name) => [name, "readonly"])),
    },
    rules: { "max-lines-per-function": ["error", 60] },
  },
];
