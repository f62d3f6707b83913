// The page's worker: loads the world, and answers the page one message after the other.

import {Session} from "./session.js";
import {openWorld} from "./world.js";

let session = null, last = Promise.resolve();

async function open(address) {
  try {
    const asked = new URL(address).searchParams.get("seed");
    if (asked !== null && !/^\d{1,15}$/.test(asked)) throw new Error("the seed must be a whole number of at least 0");
    const world = await openWorld(waiting => postMessage({waiting}));
    session = new Session(world, asked === null ? world.about.seed : Number(asked));
    postMessage({opened: true});
  } catch (error) {
    postMessage({closed: `The world could not be opened: ${error.message}`});
  }
}

async function answer(message) {
  try {
    postMessage(await session.answer(message));
  } catch (error) {
    postMessage({error: error.message});
    return;
  }
  await session.warm().catch(() => {});  // the next step will say what is wrong
}

onmessage = ({data}) => { last = last.then(() => data.address ? open(data.address) : answer(data)); };
