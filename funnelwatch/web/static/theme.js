// Light, dark, or as the system has it. Loaded before the page is drawn, so that nothing flashes.
"use strict";

(() => {
  const KEY = "funnelwatch-theme";
  const NEXT = { auto: "light", light: "dark", dark: "auto" };
  const WORDS = { auto: "◐ System", light: "☀ Light", dark: "☾ Dark" };
  const root = document.documentElement;

  function stored() {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be forbidden; then a choice lasts as long as the page
    }
  }

  function show(theme) {
    root.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button) {
      button.textContent = WORDS[theme];
      button.setAttribute("aria-label", `Colours: ${theme === "auto" ? "as the system" : theme}. Change to ${NEXT[theme]}`);
    }
    document.dispatchEvent(new Event("themechange"));
  }

  show(stored() in NEXT ? stored() : "auto");
  document.addEventListener("DOMContentLoaded", () => {
    show(root.dataset.theme);
    document.getElementById("theme").addEventListener("click", () => {
      const theme = NEXT[root.dataset.theme];
      try {
        localStorage.setItem(KEY, theme);
      } catch {
        // as above
      }
      show(theme);
    });
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(root.dataset.theme));
})();
