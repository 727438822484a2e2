export default {
  render: (place) => {
    const stage = new Stage(place);
    return () => stage.close();
  },
};
