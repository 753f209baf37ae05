// Starts the page.

import { mount } from 'svelte';
import App from './App.svelte';
import { clock } from './state/clock.svelte';
import { fleet } from './state/fleet.svelte';
import { look } from './state/theme.svelte';
import './style.css';

look.start();
clock.start();
fleet.live.start();

const target = document.getElementById('app');
if (target !== null) mount(App, { target });
