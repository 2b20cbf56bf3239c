import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// The token server serves dist/ and sends a policy that allows no inline script; nothing is inlined here either.
export default defineConfig({
  plugins: [react()],
  build: {
    target: "es2022",
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 1200,
  },
  server: {
    // `npm run dev` beside a running token server.
    proxy: { "/api": "http://127.0.0.1:8080" },
  },
});
