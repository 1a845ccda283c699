/** The metadata key that a node takes over from the one that it is built in front of: `marks.origin`. */
export const INHERITED = 'mnc.origin'
