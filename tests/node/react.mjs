/* What a page needs of React, bundled by a test: React has no ES modules of its own. */

export * as React from "react";
export { createRoot } from "react-dom/client";
