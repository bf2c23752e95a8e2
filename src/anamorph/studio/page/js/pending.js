// How much work is pending: requests without a response, and pictures that are not drawn yet. The page's root element has the
// number as data-pending, so that programs that drive the page can wait for it.

let pending = 0;

const change = (by) => {
  pending += by;
  document.documentElement.dataset.pending = String(pending);
};
change(0);

export const beginWork = () => change(1);
export const endWork = () => change(-1);

// Counts the work of an asynchronous function until it has ended.
export async function counted(work) {
  beginWork();
  try {
    return await work();
  } finally {
    endWork();
  }
}
