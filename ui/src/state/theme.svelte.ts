// Dark or light: what the system says, until a person chooses; the choice is remembered.

export type Theme = 'auto' | 'dark' | 'light';

const KEY = 'outlast.theme';
const NEXT: Record<Theme, Theme> = { auto: 'dark', dark: 'light', light: 'auto' };

class Look {
  theme = $state<Theme>('auto');
  /** Counts changes, for what draws its own colours. */
  version = $state(0);

  start(): void {
    const kept = localStorage.getItem(KEY);
    this.#set(kept === 'dark' || kept === 'light' ? kept : 'auto');
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => {
      this.version += 1;
    });
  }

  next(): void {
    this.#set(NEXT[this.theme]);
    localStorage.setItem(KEY, this.theme);
  }

  #set(theme: Theme): void {
    this.theme = theme;
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    this.version += 1;
  }
}

export const look = new Look();

/** The value a colour variable of the style sheet has just now. */
export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}
