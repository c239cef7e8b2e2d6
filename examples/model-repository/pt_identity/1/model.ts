export { default } from '../../identity_fp32/1/model.ts';
