/** Approximate number of workgroups that occupies a GPU. */
export const enoughWorkgroups = 128;
