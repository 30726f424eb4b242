// Colours by class name. The same values as in style.css; a test compares them.

const CLASSES = { normal: "#b7c0ca", benign: "#56b4e9", malignant: "#ff9d3c" };
// For models with classes of other names.
const OTHERS = ["#cc79a7", "#f0e442", "#00b386", "#b39ddb"];

export const UNCERTAIN = "#ffffff";
export const PAST = "#8d96a0";

export const STAGES = ["#4f7cac", "#8a6fb0", "#b08f4f", "#5aa287", "#a8667c", "#7f8b98", "#c0a9d8"];

/** @return {string} the colour of a class of a model */
export function classColour(name, names) {
  return CLASSES[name] ?? OTHERS[Math.max(0, names.indexOf(name)) % OTHERS.length];
}
