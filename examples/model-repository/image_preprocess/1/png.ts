import { inflateSync } from 'node:zlib';

export interface Image {
  readonly width: number;
  readonly height: number;
  /** Red, green and blue of one pixel after the other. */
  readonly rgb: Uint8Array;
}

const SIGNATURE = Buffer.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);
/** Bytes of a pixel by its colour type: grey, colour, grey and opacity, colour and opacity. */
const CHANNELS: Readonly<Record<number, number>> = { 0: 1, 2: 3, 4: 2, 6: 4 };
const LARGEST_SIDE = 4096;

/** A PNG of 8 bits a channel, without a palette and not interlaced (PNG specification, third edition). Opacity is left out. */
export function decodePng(bytes: Uint8Array): Image {
  const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (!file.subarray(0, 8).equals(SIGNATURE)) throw new Error('it does not begin as one');
  let header: Buffer | undefined;
  const data: Buffer[] = [];
  for (let at = 8; at + 12 <= file.length;) {
    const length = file.readUInt32BE(at);
    const kind = file.toString('latin1', at + 4, at + 8);
    const content = file.subarray(at + 8, at + 8 + length);
    if (kind === 'IHDR') header = content;
    if (kind === 'IDAT') data.push(content);
    at += 12 + length;
  }
  if (header === undefined || header.length < 13) throw new Error('it has no header');
  const [width, height] = [header.readUInt32BE(0), header.readUInt32BE(4)];
  const [depth, type, , , interlaced] = header.subarray(8);
  const channels = CHANNELS[type];
  if (depth !== 8 || channels === undefined || interlaced !== 0)
    throw new Error('it has a palette, 16 bits or an interlace');
  if (width === 0 || height === 0 || Math.max(width, height) > LARGEST_SIDE)
    throw new Error(`${width} x ${height} pixels`);
  const lines = inflateSync(Buffer.concat(data), { maxOutputLength: height * (1 + width * channels) });
  return { width, height, rgb: colours(unfiltered(lines, width * channels, height, channels), channels) };
}

/** Each line says by its first byte how it was told from the pixels to the left and above. */
function unfiltered(lines: Buffer, stride: number, height: number, channels: number): Uint8Array {
  if (lines.length < height * (stride + 1)) throw new Error('its data ends too soon');
  const out = new Uint8Array(height * stride);
  for (let y = 0; y < height; y++) {
    const filter = lines[y * (stride + 1)];
    for (let x = 0; x < stride; x++) {
      const left = x < channels ? 0 : out[y * stride + x - channels];
      const above = y === 0 ? 0 : out[(y - 1) * stride + x];
      const corner = y === 0 || x < channels ? 0 : out[(y - 1) * stride + x - channels];
      const guess = [0, left, above, (left + above) >> 1, paeth(left, above, corner)][filter];
      if (guess === undefined) throw new Error(`it has the unknown filter ${filter}`);
      out[y * stride + x] = lines[y * (stride + 1) + 1 + x] + guess;
    }
  }
  return out;
}

function paeth(left: number, above: number, corner: number): number {
  const [a, b, c] = [left, above, corner].map((value) => Math.abs(left + above - corner - value));
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}

function colours(pixels: Uint8Array, channels: number): Uint8Array {
  const grey = channels < 3;
  const rgb = new Uint8Array((pixels.length / channels) * 3);
  for (let i = 0; i < rgb.length; i++) rgb[i] = pixels[Math.floor(i / 3) * channels + (grey ? 0 : i % 3)];
  return rgb;
}
